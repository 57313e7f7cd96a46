"""Stopping when told to: by SIGTERM, by Ctrl-C, by the notice of a cloud machine to be taken away.

A run that is told to stop finishes the steps that are under way, saves, and ends. Nothing of it
waits for the devices: a flag is looked at before each step is started.
"""

from __future__ import annotations

import http.client
import os
import pathlib
import signal
import threading
import urllib.error
import urllib.request
from types import FrameType, TracebackType
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

_DEFAULT_HOST = "metadata.google.internal"
_PRODUCT = pathlib.Path("/sys/class/dmi/id/product_name")
_NOTICES = {
    "instance/maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE",
    "instance/preempted": "TRUE",
}


class StoppedBeforeTraining(BaseException):  # noqa: N818 - like KeyboardInterrupt, no error
    """Told to stop while nothing was there to be saved."""


class Stopper:
    """Learns that the run has to stop; for use in a ``with``, from the main thread.

    Until `begin` a signal ends what is going on at once, by `StoppedBeforeTraining`. After it the
    first signal is remembered. A second Ctrl-C then ends the process as if nobody listened; another
    SIGTERM does not, since launchers and systems that shut down send several, and the run is saving
    already. In a run of several processes JAX receives SIGTERM, and all agree on the step to stop
    at.

    Attributes:
      cause: what told it to stop, empty until then.
      stopped: whether `reached` has said so.
    """

    def __init__(self) -> None:
        self.cause = ""
        self.stopped = False
        self._several = jax.process_count() > 1
        self._begun = False
        self._before: dict[signal.Signals, Any] = {}
        self._notices = NoticeWatch.of_this_machine()

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            signals = [signal.SIGINT] if self._several else [signal.SIGINT, signal.SIGTERM]
            self._before = {name: signal.signal(name, self._told) for name in signals}
        if self._notices:
            self._notices.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._notices:
            self._notices.stop()
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def begin(self) -> None:
        """From here on there is something to save."""
        self._begun = True

    def reached(self, step: int) -> bool:
        """Whether the run has to stop here; to be asked before each step, with its number."""
        if self._several:
            self.stopped = multihost_utils.reached_preemption_sync_point(step)
            if self.stopped:
                self.cause = self.cause or "SIGTERM"
        else:
            self.stopped = bool(self.cause)
        return self.stopped

    def _told(self, number: int, frame: FrameType | None) -> None:
        self.cause = signal.Signals(number).name
        if not self._several:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)  # which JAX tells the others
        elif not self._begun:
            raise StoppedBeforeTraining
        logging.info("%s: the run saves and stops; a second Ctrl-C ends it at once", self.cause)


class NoticeWatch:
    """A thread that turns the notices of a Google Cloud machine into SIGTERM.

    A notice that stood already when the watch began is the reason of an earlier stop: it is not
    acted upon again, or a restart on the same machine would not get further than a step.

    Args:
      host: HOST or HOST:PORT of the metadata server.
      every: seconds between two questions.
    """

    def __init__(self, host: str, every: float = 5.0) -> None:
        self._host, self._every = host, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notices", daemon=True)
        # No proxy: the server answers on the machine's own link.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @classmethod
    def of_this_machine(cls) -> NoticeWatch | None:
        """Makes the watch where there is a metadata server, which nobody else is asked for."""
        if host := os.environ.get("GCE_METADATA_HOST"):
            return cls(host)
        try:
            product = _PRODUCT.read_text()
        except OSError:
            return None
        return cls(_DEFAULT_HOST) if "Google" in product else None

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it; an answer that is still awaited is not waited for."""
        self._done.set()

    def ask(self) -> dict[str, bool]:
        """Asks once; returns of each notice whether it stands, without those nobody answered."""
        found = {}
        for path, word in _NOTICES.items():
            request = urllib.request.Request(
                f"http://{self._host}/computeMetadata/v1/{path}",
                headers={"Metadata-Flavor": "Google"},
            )
            try:
                with self._opener.open(request, timeout=2) as answer:
                    found[path] = answer.read().decode(errors="replace").strip() == word
            except (OSError, http.client.HTTPException, urllib.error.URLError):
                continue
        return found

    def _watch(self) -> None:
        stood = self.ask()
        while not self._done.wait(self._every):
            now = self.ask()
            new = [path for path, stands in now.items() if stands and not stood.get(path)]
            if new and not self._done.is_set():
                logging.warning("notice of this machine: %s is %s", new[0], _NOTICES[new[0]])
                os.kill(os.getpid(), signal.SIGTERM)
                return
            stood |= now  # what was not answered stays as it was
