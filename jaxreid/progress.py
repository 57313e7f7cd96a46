"""How far a run is, how fast it goes and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Mapping

from absl import logging

from jaxreid.logbook import Logbook, NoLogbook


class Progress:
    """Rate and time left; compiling, validating and saving are not counted.

    Args:
      step: number of finished steps at the start.
      total: steps of the whole run.
      batch_size: pairs of a step.
    """

    def __init__(self, step: int, total: int, batch_size: int) -> None:
        self._total, self._batch_size = total, batch_size
        self._timed_from = step
        self._since = time.perf_counter()

    def pause(self, step: int) -> None:
        """Begins measuring anew after something that is no training step."""
        self._timed_from = step
        self._since = time.perf_counter()

    def report(self, step: int, scalars: Mapping[str, float], logbook: Logbook | NoLogbook) -> None:
        """Logs where the run is.

        Args:
          step: number of finished steps.
          scalars: means over the steps since the last report.
          logbook: where the numbers go.
        """
        line = {f"train/{name}": value for name, value in scalars.items()}
        message = f"step {step} of {self._total}, loss {scalars['loss']:.3f}"
        timed = step - self._timed_from
        if timed:
            seconds = (time.perf_counter() - self._since) / timed
            line["train/pairs_per_s"] = self._batch_size / seconds
            left = duration((self._total - step) * seconds)
            message += f", {line['train/pairs_per_s']:.0f} pairs/s, {left} left"
        logbook.write(step, line)
        logging.info("%s", message)
        self.pause(step)


def duration(seconds: float) -> str:
    """Writes seconds for a person: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
