"""When a run stops between its planned saves: to save by the clock, or because it was told to."""

from __future__ import annotations

import time
from collections.abc import Callable

from jaxreid import checkpoint, hosts, preemption


class Halts:
    """What makes the loop pause before a step, so that its state can be saved.

    A save by the clock falls on the first report after its time, where the loop waits for the
    devices anyway; so it changes no number, nor how the means of ``metrics.jsonl`` are cut. A stop
    falls on any step. The steps since the last report are then reported as a window of their own,
    and the run goes on with a new window: means after it are over fewer steps than in a run that
    was not stopped, and every step is in exactly one of them. The weights are the same bit for bit.

    Args:
      checkpoints: of the run.
      minutes: between saves; 0 for none by the clock.
      stopper: tells when the run has to stop.
      clock: seconds, from any time on.
    """

    def __init__(
        self,
        checkpoints: checkpoint.Checkpoints,
        minutes: int,
        stopper: preemption.Stopper,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkpoints, self._stopper = checkpoints, stopper
        self._seconds, self._clock = 60 * minutes, clock
        self._due, self._since = False, clock()

    def __call__(self, step: int) -> bool:
        """Whether to pause instead of starting the step of this number."""
        return self._due or self._stopper.reached(step)

    def reported(self) -> None:
        """To be called at each report: looks at the clock, and for a save that failed.

        Raises:
          checkpoint.SaveFailedError: the last save did.
        """
        self._checkpoints.check()
        if self._seconds:  # the first process's clock counts, or some would save and some not
            self._due = float(hosts.agree(self._clock() - self._since)) >= self._seconds

    def saved(self) -> None:
        """To be called after each save, planned or not."""
        self._due, self._since = False, self._clock()

    @property
    def stopped(self) -> bool:
        """Whether the run has to end here."""
        return self._stopper.stopped
