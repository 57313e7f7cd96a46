"""Rate and time left, with a clock of our own."""

import pytest

from jaxreid import progress


class Log:
    def __init__(self):
        self.lines = []

    def write(self, step, scalars):
        self.lines.append((step, scalars))


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_compiling_and_pauses_are_not_counted(clock, caplog):
    log = Log()
    shown = progress.Progress(0, 100, 32)
    clock[0] += 50  # compiling
    shown.pause(1)
    clock[0] += 10
    with caplog.at_level("INFO"):
        shown.report(6, {"loss": 1.25}, log)
    assert log.lines == [(6, {"train/loss": 1.25, "train/pairs_per_s": 16.0})]
    assert "step 6 of 100, loss 1.250, 16 pairs/s, 3 min 08 s left" in caplog.text
    clock[0] += 1000  # validating
    shown.pause(6)
    clock[0] += 4
    shown.report(8, {"loss": 1.0}, log)
    assert log.lines[1][1]["train/pairs_per_s"] == 16.0


def test_no_rate_where_nothing_was_timed(clock):
    log = Log()
    shown = progress.Progress(0, 100, 32)
    shown.pause(1)
    shown.report(1, {"loss": 1.0}, log)
    assert log.lines == [(1, {"train/loss": 1.0})]
