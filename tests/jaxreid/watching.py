"""What a program does besides its steps: compiling, and talk between host and devices."""

import contextlib

import jax
import jax.numpy as jnp
import pytest

from jaxreid import loop


@contextlib.contextmanager
def compilations():
    """Gathers the seconds of each compilation; programs read from a folder count, too."""
    seen = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@contextlib.contextmanager
def guarded_steps():
    """Forbids, while steps are started, transfers nobody asked for; gathers shapes of fetches."""
    fetched = []
    dispatch, array = loop.dispatch, type(jnp.zeros(()))
    value = array._value

    def watched(self):
        fetched.append(self.shape)
        return value.fget(self)

    def guarded(*arguments):
        # On CPU the guard sees what goes to a device, but not what is fetched from it.
        with pytest.MonkeyPatch.context() as patch, jax.transfer_guard("disallow"):
            patch.setattr(array, "_value", property(watched))
            return dispatch(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "dispatch", guarded)
        yield fetched
