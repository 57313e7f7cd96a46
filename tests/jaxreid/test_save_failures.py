"""Saves that fail in the background, and folders that cannot be written."""

import errno
import os
import pathlib
import time

import jax
import numpy as np
import pytest

from jaxreid import cli, exit_codes, hosts, integrity, runs
from jaxreid import config as config_lib
from jaxreid.checkpoint import Checkpoints, SaveFailedError
from tests.jaxreid import disks, tiny
from tests.jaxreid.test_checkpoint import kept, save, state


def _no_room(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """Checkpoints of which the first is whole and the second finds no room in the background."""
    with Checkpoints(tmp_path, create=True) as checkpoints:
        save(checkpoints, 1, 10.0)
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(integrity, "seal", _no_room)
            save(checkpoints, 2, 20.0)
            while checkpoints._manager.is_saving_in_progress():
                time.sleep(0.001)
        yield checkpoints


@pytest.mark.parametrize("call", [lambda c: c.check(), lambda c: c.wait(), lambda c: save(c, 3)])
def test_a_save_that_failed_is_told_by_the_next_call(failing, tmp_path, call):
    with pytest.raises(SaveFailedError) as caught:
        call(failing)
    message = str(caught.value)
    assert f"step 2 was not written to {tmp_path / 'checkpoints'}: the disk is full" in message
    assert "It takes up to 0.0 MiB, and " in message
    assert "The one before it, step 1, is whole" in message
    assert (failing.last, failing.best) == (1, 1)
    assert kept(tmp_path) == [1]
    save(failing, 2, 20.0)  # there is room again
    failing.wait()
    assert (failing.last, failing.best) == (2, 2)


def test_the_reason_ends_with_one_full_stop(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError("it is not ours.")

    monkeypatch.setattr(integrity, "seal", refuse)
    with (
        pytest.raises(SaveFailedError, match=r"PermissionError: it is not ours\. It takes"),
        Checkpoints(tmp_path, create=True) as checkpoints,
    ):
        save(checkpoints, 1)


def _broken_barrier(folder):
    lost = jax.errors.JaxRuntimeError("UNAVAILABLE: the task /job:0/task:1 sent no heartbeat")
    raise TimeoutError("Timed out while waiting for async_write_complete barrier.") from lost


def _broken_exchange(folder):
    raise jax.errors.JaxRuntimeError("FAILED_PRECONDITION: connection closed by peer")


def _slow_disk(folder):
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), str(folder))


def _refused_before_a_barrier(folder):
    try:
        raise PermissionError("not ours")
    except PermissionError:
        _broken_exchange(folder)


@pytest.mark.parametrize(
    ("failure", "joined", "kind"),
    [
        (_broken_barrier, True, RuntimeError),
        (_broken_exchange, True, RuntimeError),
        (_broken_exchange, False, SaveFailedError),
        (_slow_disk, True, SaveFailedError),
        (_no_room, True, SaveFailedError),
        (_refused_before_a_barrier, True, SaveFailedError),
    ],
)
def test_a_process_lost_during_a_save_is_no_failure_of_the_disk(
    tmp_path, monkeypatch, failure, joined, kind
):
    """The command then ends with `exit_codes.LOST`, upon which launchers start it again."""
    monkeypatch.setattr(integrity, "seal", failure)
    with Checkpoints(tmp_path, create=True) as checkpoints, monkeypatch.context() as patch:
        save(checkpoints, 1)
        patch.setattr(hosts, "joined", lambda: joined)
        with pytest.raises((RuntimeError, SaveFailedError)) as caught:
            checkpoints.wait()
        assert type(caught.value) is kind
        assert "step 1" in str(caught.value)
        if kind is RuntimeError:
            assert cli._of_jax(caught.value)[1] == exit_codes.LOST


def test_a_loss_is_told_when_leaving(tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "seal", _broken_barrier)
    monkeypatch.setattr(hosts, "joined", lambda: True)
    with (
        pytest.raises(RuntimeError, match="in the save of step 1: TimeoutError"),
        Checkpoints(tmp_path, create=True) as checkpoints,
    ):
        save(checkpoints, 1)


def test_leaving_tells_of_it_unless_there_is_another_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(integrity, "seal", _no_room)

    def save_and(workdir, error=None):
        with Checkpoints(workdir, create=True) as checkpoints:
            save(checkpoints, 1)
            if error:
                raise error

    with pytest.raises(SaveFailedError, match="There is none before it"):
        save_and(tmp_path / "a")
    with pytest.raises(KeyError):
        save_and(tmp_path / "b", KeyError())
    assert "step 1 was not written" in caplog.text


def test_a_running_save_is_not_waited_for(tmp_path, monkeypatch):
    seal, go = integrity.seal, tmp_path / "go"

    def slow(folder):
        while not go.exists():
            time.sleep(0.001)
        seal(folder)

    monkeypatch.setattr(integrity, "seal", slow)
    with Checkpoints(tmp_path, create=True) as checkpoints:
        save(checkpoints, 1)
        checkpoints.check()
        assert not kept(tmp_path)
        go.touch()


def test_a_step_before_the_last_is_not_left_out_in_silence(tmp_path):
    with Checkpoints(tmp_path, create=True) as checkpoints:
        save(checkpoints, 2)
        with pytest.raises(SaveFailedError, match="holds a later step than 1"):
            save(checkpoints, 1)


def _save_big(workdir, step):
    """Writes a checkpoint of 2 MiB as a run would that ends after it."""
    kernel = np.random.default_rng(step).random(1 << 18)
    with Checkpoints(workdir, create=True) as checkpoints:
        variables = {"params": {"kernel": kernel}}
        checkpoints.save(step, variables=variables, optimizer=state(1)["optimizer"], meta={})


@pytest.mark.filterwarnings(  # of TensorStore's threads, which come back after Orbax gave up
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("spare", [0, 1 << 20])
def test_a_disk_that_is_full(tmp_path, spare):
    """The one before stays whole, and the next run writes the next one once there is room."""
    with disks.mounted(tmp_path, "size=12m"):
        _save_big(tmp_path, 1)
        filler = disks.fill(tmp_path, spare)
        words = r"2 was not written .*: the disk is full. It takes up to 2.0 MiB, and \d.* are free"
        with pytest.raises(SaveFailedError, match=words):
            _save_big(tmp_path, 2)
        assert not integrity.damage(tmp_path / "checkpoints" / "1")
        filler.unlink()
        integrity.mend(tmp_path / "checkpoints")
        _save_big(tmp_path, 2)
        assert kept(tmp_path) == [2]
        assert not integrity.damage(tmp_path / "checkpoints" / "2")


def _refused(workdir):
    with pytest.raises(ValueError, match=r"--workdir .* cannot be written \(Read-only file system"):
        runs.prepare_folder(tiny.config(), workdir)


def test_a_folder_on_a_disk_that_is_read_only(tmp_path):
    with disks.mounted(tmp_path, "ro"):
        _refused(tmp_path)
        _refused(tmp_path / "new")


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "write_bytes", refuse)
    _refused(tmp_path)
    assert not (tmp_path / config_lib.FILE_NAME).exists()
