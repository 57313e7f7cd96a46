"""How far a run is, how fast it goes and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Mapping

from absl import logging

from jaxreid.logbook import Logbook


class Progress:
    """Rate and time left, validation and saving not counted.

    Args:
      total: steps of the whole run.
      batch_size: pairs of a step.
    """

    def __init__(self, total: int, batch_size: int) -> None:
        self._total = total
        self._batch_size = batch_size
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Begins measuring anew, after something that is no training step."""
        self._since = time.perf_counter()

    def report(
        self, step: int, steps: int, scalars: Mapping[str, float], logbook: Logbook
    ) -> None:
        """Logs the steps since the last report.

        Args:
          step: number of finished steps.
          steps: how many of them are new.
          scalars: their means.
          logbook: where the numbers go.
        """
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        self._since = now
        rate = steps * self._batch_size / seconds
        logbook.write(
            step, {**{f"train/{k}": v for k, v in scalars.items()}, "train/pairs_per_s": rate}
        )
        left = (self._total - step) * seconds / steps
        logging.info(
            "step %d of %d, loss %.3f, %.0f pairs/s, %s left",
            step,
            self._total,
            scalars["loss"],
            rate,
            duration(left),
        )


def duration(seconds: float) -> str:
    """Writes seconds for a person: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
