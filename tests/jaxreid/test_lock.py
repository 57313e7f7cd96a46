"""One process trains in a folder at a time."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from jaxreid import hosts, lock

_HOLD = """
import sys, time
from jaxreid import lock
with lock.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    words = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout.readline() == b"held\n"
            expected = (
                rf"--workdir .* is in use: process {first.pid} on .*, since 20.* trains in it"
            )
            with pytest.raises(ValueError, match=expected), lock.held(tmp_path):
                pass
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
    with lock.held(tmp_path):
        found = json.loads((tmp_path / lock.FILE_NAME).read_text())
        assert found["pid"] == os.getpid()


def test_it_is_let_go_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock.held(tmp_path / "new"):
        raise KeyError
    with lock.held(tmp_path / "new"):
        pass


def test_a_holder_that_wrote_nothing(tmp_path):
    with (tmp_path / lock.FILE_NAME).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is in use: another process"), lock.held(tmp_path):
            pass


def test_only_the_first_of_several_hosts_takes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    with lock.held(tmp_path), lock.held(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_bucket_is_not_locked_and_the_log_says_so(caplog):
    caplog.set_level("INFO", "absl")
    with lock.held("gs://bucket/run"):
        assert "gs://bucket/run is not locked" in caplog.text


def test_a_disk_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with lock.held(tmp_path):
        assert "cannot be locked (No locks available)" in caplog.text


def test_a_folder_that_cannot_be_written_is_left_to_others_to_explain(tmp_path):
    (tmp_path / "file").touch()
    with lock.held(tmp_path / "file"):
        pass


def test_a_lock_file_that_cannot_be_opened_is_warned_of(tmp_path, caplog):
    (tmp_path / lock.FILE_NAME).mkdir()
    with lock.held(tmp_path):
        assert f"{tmp_path} cannot be locked (Is a directory)" in caplog.text
