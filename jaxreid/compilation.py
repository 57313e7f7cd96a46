"""Compiling ahead of need, with a report, and a folder that keeps compiled programs."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
from absl import logging

from jaxreid import memory
from jaxreid.data.cache import default_cache_dir

# Reading a program from a file takes about as long as compiling a small one.
_SMALLEST_SECONDS = 0.5
_FOLDER = "jax_compilation_cache_dir"  # JAX's name for it, in its configuration
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def keep_programs() -> pathlib.Path | None:
    """Has JAX keep what it compiles in a private folder, for the processes to come.

    The folder is ``compiled`` below `cache.default_cache_dir`. A folder that was set before, in
    JAX's configuration or by ``JAX_COMPILATION_CACHE_DIR``, stays, and so does an empty name, which
    keeps nothing. Programs are code that runs with our rights: a folder that anybody else owns or
    can write to is not used. To do without it is slower and no error, so that is a warning.

    Returns:
      The folder, or None where it is not used.
    """
    if getattr(jax.config, _FOLDER) is not None:
        return None
    folder = default_cache_dir() / "compiled"
    if wrong := _what_is_wrong(folder):
        logging.warning(
            "compiled programs are not kept: %s. Everything is compiled anew each time; name a "
            "folder of yours in JAXREID_CACHE, or in JAX_COMPILATION_CACHE_DIR.",
            wrong,
        )
        return None
    jax.config.update(_FOLDER, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SMALLEST_SECONDS)
    return folder


def _what_is_wrong(folder: pathlib.Path) -> str:
    """Makes the folder if it is missing; says why it cannot be used, or nothing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        return f"{folder} cannot be made ({error})"
    if found.st_uid != os.geteuid():
        return f"{folder} belongs to another user, whose programs would run here"
    if found.st_mode & _OTHERS_WRITE:
        return (
            f"others can write to {folder} (mode {stat.S_IMODE(found.st_mode):o}), and what they "
            "put there would run here; chmod 700 makes it private once you trust what is in it"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to"
    return ""


class Programs:
    """Programs of one function, each compiled when it is first asked for, and reported.

    Args:
      jitted: the function, under `jax.jit`.
      what: its name in the log.
    """

    def __init__(self, jitted: Any, what: str) -> None:
        self._jitted, self._what = jitted, what
        self._programs: dict[Hashable, Callable[..., Any]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._programs

    def get(
        self, key: Hashable, *arguments: Any, note: str = "", **static: Any
    ) -> Callable[..., Any]:
        """Returns the program of a key.

        Args:
          key: what tells its shapes, shardings and static arguments from those of others.
          *arguments: trees of arrays, or of their shapes with shardings.
          note: which one it is, for the log.
          **static: static arguments, compiled in.

        Returns:
          A function of the arguments alone; others than of these shapes it refuses.
        """
        if key not in self._programs:
            what = f"{self._what}, {note}" if note else self._what
            self._programs[key] = compile_ahead(self._jitted, *arguments, what=what, **static)
        return self._programs[key]


def compile_ahead(jitted: Any, *arguments: Any, what: str, **static: Any) -> jax.stages.Compiled:
    """Compiles a function for these shapes, runs nothing, and logs what it took.

    Args:
      jitted: the function, under `jax.jit`.
      *arguments: trees of arrays, or of their shapes with shardings.
      what: its name in the log.
      **static: static arguments.
    """
    start = time.perf_counter()
    with _reads_of_the_cache() as reads:
        compiled: jax.stages.Compiled = jitted.lower(*arguments, **static).compile()
    seconds = time.perf_counter() - start
    how = "read from the cache" if reads else "compiled"
    logging.info("%s %s in %.1f s%s", how, what, seconds, _memory(compiled))
    memory.give_back()
    return compiled


def _memory(compiled: jax.stages.Compiled) -> str:
    """Says how much memory a program takes on each device, where XLA tells."""
    found = compiled.memory_analysis()
    if found is None:
        return ""
    arguments, temporary = found.argument_size_in_bytes, found.temp_size_in_bytes
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return (
        f"; {memory.gib(arguments + results + temporary)} on each device: arguments "
        f"{memory.gib(arguments)}, results beside them {memory.gib(results)}, temporary "
        f"{memory.gib(temporary)}"
    )


@contextlib.contextmanager
def _reads_of_the_cache() -> Iterator[list[str]]:
    """Collects the events of programs that were found in JAX's folder of them."""
    found: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_listener(listen)
