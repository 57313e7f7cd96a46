"""One training process at a time in the folder of a run."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO

from absl import logging

from jaxreid import hosts

FILE_NAME = ".lock"


@contextlib.contextmanager
def held(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other training processes out of a run's folder inside the ``with``.

    The system lets go of the lock when the process ends, however it ends. Of several hosts the
    first takes it. A bucket (``gs://``) knows no such lock: there nothing is locked, which the log
    says, and to start a run twice is left to the user not to do.

    Args:
      workdir: the run's folder; made if it is missing. One that cannot be written is not locked;
        nor is one whose lock file cannot be opened, with a warning.

    Raises:
      ValueError: another process holds it.
    """
    if not hosts.is_first():
        yield
        return
    if "://" in os.fspath(workdir):
        logging.info("%s is not locked: start no second run in it", workdir)
        yield
        return
    folder = pathlib.Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE_NAME).open("a+")
    except OSError as error:
        if os.access(folder, os.W_OK):  # else `runs.prepare_folder` tells what to do
            _warn(workdir, error)
        yield
        return
    with file:
        _take(file, workdir)
        yield


def _take(file: IO[str], workdir: str | os.PathLike[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"--workdir {str(workdir)!r} is in use: {_holder(file)} trains in it. Wait until it "
            "has ended, stop it (SIGTERM lets it save), or name another folder."
        ) from error
    except OSError as error:
        _warn(workdir, error)
        return
    now = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
    with contextlib.suppress(OSError):  # a full disk: the lock holds, only its words are missing
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": now}, file)
        file.flush()


def _warn(workdir: str | os.PathLike[str], error: OSError) -> None:
    logging.warning("%s cannot be locked (%s): start no second run in it", workdir, error.strerror)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        found = json.load(file)
        return f"process {found['pid']} on {found['host']}, since {found['since']},"
    except (ValueError, KeyError):
        return "another process"
