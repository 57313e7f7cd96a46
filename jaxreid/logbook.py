"""What a run writes about itself: ``metrics.jsonl`` and TensorBoard files."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from absl import logging

from jaxreid import files, paths
from jaxreid.paths import AnyPath

FILE_NAME = "metrics.jsonl"

_SECONDS_BETWEEN_COPIES = 60.0


class Logbook:
    """Scalars by step, one JSON object a line and one TensorBoard event each.

    In a bucket no file can grow: there both are written on the local disk and copied once a minute
    and by `flush`.

    Args:
      workdir: the run's folder.
      step: where the run starts or goes on; lines of later steps, written by a run that was killed
        after its last checkpoint, are taken out, for they will be written again.
    """

    def __init__(self, workdir: str | os.PathLike[str], *, step: int = 0) -> None:
        import tensorboardX  # which imports PyTorch where that is installed: only when it is needed

        folder = paths.as_path(workdir)
        self._spool = _Spool(folder) if paths.is_remote(folder) else None
        local = self._spool.local if self._spool else folder
        self.path = local / FILE_NAME
        lines = read(workdir)
        kept = [line for line in lines if line["step"] <= step]
        files.write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", buffering=1)
        self._board = tensorboardX.SummaryWriter(
            str(local / "tensorboard"), purge_step=step + 1 if lines else None
        )

    def write(self, step: int, scalars: Mapping[str, float], **more: Any) -> None:
        """Adds a line.

        Args:
          step: number of finished steps.
          scalars: name -> value; a name's part before ``/`` groups curves.
          **more: what else the line should hold, strings for example.
        """
        line = {"step": step, **more, **{key: float(value) for key, value in scalars.items()}}
        self._file.write(json.dumps(line) + "\n")
        for key, value in scalars.items():
            self._board.add_scalar(key, float(value), step)
        if self._spool and self._spool.is_due():
            try:
                self.flush()
            except Exception as error:  # those of the bucket's client; the next copy has it all
                logging.warning("metrics were not copied: %s", paths.first_line(error))

    def flush(self) -> None:
        """Writes out what was added so far; to be called before each checkpoint.

        Of what is added later a killed run may lose lines, and writes them again when it goes on.
        """
        self._file.flush()
        self._board.flush()
        if self._spool:
            self._spool.copy()

    def close(self) -> None:
        """Writes out what is still in memory."""
        self._file.close()
        self._board.close()
        if self._spool:
            self._spool.copy()
            self._spool.close()


class _Spool:
    """A local folder whose files are copied into a folder of a bucket.

    Args:
      remote: the folder to copy to.
    """

    def __init__(self, remote: AnyPath) -> None:
        self._remote = remote
        self._folder = tempfile.TemporaryDirectory(prefix="jaxreid-")
        self.local = pathlib.Path(self._folder.name)
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last copy is old enough for another."""
        return time.monotonic() - self._last >= _SECONDS_BETWEEN_COPIES

    def copy(self) -> None:
        self._last = time.monotonic()
        paths.upload(self.local, self._remote)

    def close(self) -> None:
        self._folder.cleanup()


class NoLogbook:
    """Stands for the logbook in the processes that write none."""

    def write(self, step: int, scalars: Mapping[str, float], **more: Any) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the lines of a run, leaving out one that a kill cut short.

    Args:
      workdir: the run's folder.

    Returns:
      One dictionary a line, in the order written; empty where there is no file.
    """
    path = paths.as_path(workdir) / FILE_NAME
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break  # only the last line can be incomplete
    return lines
