"""Lines by step, after kills and resumes."""

import json

import pytest

from jaxreid import logbook


def write(workdir, steps, *, start=0):
    book = logbook.Logbook(workdir, step=start)
    for step in steps:
        book.write(step, {"train/loss": step / 10}, note="a")
    book.close()


def steps(workdir):
    return [line["step"] for line in logbook.read(workdir)]


def test_what_is_written_reads_back(tmp_path):
    write(tmp_path, [5, 10])
    assert logbook.read(tmp_path) == [
        {"step": 5, "note": "a", "train/loss": 0.5},
        {"step": 10, "note": "a", "train/loss": 1.0},
    ]


def test_lines_are_on_disk_at_once(tmp_path):
    book = logbook.Logbook(tmp_path)
    book.write(1, {"x": 1})
    assert steps(tmp_path) == [1]  # a kill now loses nothing
    book.close()


def test_nothing_yet(tmp_path):
    assert logbook.read(tmp_path) == []


def test_later_lines_are_taken_out_on_resume(tmp_path):
    write(tmp_path, [5, 10, 15, 20])
    write(tmp_path, [15, 20, 25], start=10)
    assert steps(tmp_path) == [5, 10, 15, 20, 25]


def test_a_run_without_a_checkpoint_begins_anew(tmp_path):
    write(tmp_path, [5, 10])
    write(tmp_path, [5], start=0)
    assert steps(tmp_path) == [5]


def test_a_torn_last_line(tmp_path):
    write(tmp_path, [5, 10])
    path = tmp_path / logbook.FILE_NAME
    path.write_text(path.read_text() + '{"step": 15, "train/lo')
    assert steps(tmp_path) == [5, 10]
    write(tmp_path, [15], start=10)
    assert steps(tmp_path) == [5, 10, 15]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(("start", "purged"), [(0, [1]), (10, [11])])
def test_tensorboard_forgets_what_comes_again(tmp_path, start, purged):
    write(tmp_path, [5, 10, 15])
    write(tmp_path, [], start=start)
    assert session_starts(tmp_path) == purged


def test_tensorboard_of_a_new_run_forgets_nothing(tmp_path):
    write(tmp_path, [5])
    assert session_starts(tmp_path) == []


def session_starts(workdir):
    """Steps from which TensorBoard is told to forget, read from the event files."""
    import struct

    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = []
    for path in (workdir / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:  # length, its checksum, event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            if event.session_log.status == SessionLog.START:
                found.append(event.step)
            data = data[16 + length :]
    return found


def test_in_a_bucket_lines_are_copied_before_each_checkpoint(bucket):
    workdir = "gs://bucket/run"
    book = logbook.Logbook(workdir)
    book.write(1, {"x": 1})
    book.write(2, {"x": 1})
    assert steps(workdir) == []  # a kill now loses what no checkpoint has either
    book.flush()
    assert steps(workdir) == [1, 2]
    book.write(3, {"x": 1})
    book.close()
    assert steps(workdir) == [1, 2, 3]
    again = logbook.Logbook(workdir, step=2)
    again.close()
    assert steps(workdir) == [1, 2]
    assert bucket.below("run/tensorboard/")
    assert not again.path.exists()  # nothing is left on the local disk


def test_in_a_bucket_lines_are_copied_when_a_minute_is_over(bucket, monkeypatch):
    monkeypatch.setattr(logbook, "_SECONDS_BETWEEN_COPIES", 0)
    book = logbook.Logbook("gs://bucket/run")
    book.write(1, {"x": 1})
    assert steps("gs://bucket/run") == [1]
    book.close()


def test_a_copy_that_fails_ends_a_run_only_at_its_checkpoint(bucket, monkeypatch):
    monkeypatch.setattr(logbook, "_SECONDS_BETWEEN_COPIES", 0)
    book = logbook.Logbook("gs://bucket/run")
    bucket.refuses = PermissionError("403")
    book.write(1, {"x": 1})
    with pytest.raises(OSError, match="403|Forbidden"):
        book.flush()
    bucket.refuses = None
    book.close()
    assert steps("gs://bucket/run") == [1]
