"""Whether a run that is killed again and again ends bit for bit like one that is left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from jaxreid import checkpoint, exit_codes, integrity, logbook, sharding
from jaxreid import config as config_lib
from jaxreid.bench import measure

_CONFIG_FILE = """from jaxreid import config


def get_config(argument=""):
    return config.load({folder!r})
"""
_MEAN_STEPS = 4
_PAUSE = 0.005
_FREE_OF_TIME = "train/pairs_per_s"


@dataclasses.dataclass(frozen=True)
class Life:
    """One process of a run, from its start to its end.

    Attributes:
      end: ``SIGKILL``, ``SIGTERM`` or ``finished``.
      saving: whether a save was under way when it ended.
      starting: whether it ended before its first step.
      seconds: from its start to its first step; None where it made none.
      repeated: steps it computed that no checkpoint holds, to be computed again.
    """

    end: str
    saving: bool
    starting: bool
    seconds: float | None
    repeated: int


@dataclasses.dataclass(frozen=True)
class Survival:
    """What became of a run that was killed.

    Attributes:
      lives: its processes, in order.
      steps: of the run.
      arrays: leaves of the last checkpoint that were compared.
      differing: what is not as in the undisturbed run; empty where all is.
    """

    lives: tuple[Life, ...]
    steps: int
    arrays: int
    differing: tuple[str, ...]


def bench_survive(config: ConfigDict, *, kills: int = 20, seed: int = 0) -> measure.Measured:
    """Trains a run twice, once undisturbed and once killed again and again.

    Args:
      config: of the run, a small one: its first stage is trained for about twelve steps a kill,
        every one of which is saved.
      kills: how many; about one in five is a SIGTERM, the others are SIGKILL, one in five of all
        somewhere in the start of a process.
      seed: of the moments.

    Raises:
      ValueError: the number of kills is below 1.
      RuntimeError: a process ended by itself.
    """
    measure.check_from_one({"kills": kills})
    where = measure.environment()
    with tempfile.TemporaryDirectory(prefix="jaxreid-survive-") as folder:
        found = survive(config, folder, kills=kills, seed=seed)
    numbers = dataclasses.asdict(found) | {"kills": kills, "seed": seed}
    title = f"a run of {found.steps} steps, killed {kills} times (seed {seed})"
    return measure.Measured.here(title, where, numbers, _rows(found))


def survive(
    config: ConfigDict, folder: str | os.PathLike[str], *, kills: int, seed: int
) -> Survival:
    """Does what `bench_survive` reports.

    Args:
      config: of the run.
      folder: where both runs go, ``whole`` and ``killed``; must exist.
      kills: how many.
      seed: of the moments.
    """
    random = np.random.default_rng(seed)
    ahead = random.integers(0, 2 * _MEAN_STEPS, kills).tolist()
    steps = sum(ahead) + 8 * kills + 8  # a kill comes up to eight steps late
    runs = _Runs(config, pathlib.Path(folder).resolve(), steps)
    typical = runs.finish("whole").seconds or 0.0
    lives = []
    for index, steps_ahead in enumerate(ahead):
        if index % 5 == 4:
            life = runs.kill_at_start("killed", random.uniform(0, typical))
        else:
            number = signal.SIGTERM if index % 4 == 1 else signal.SIGKILL
            life = runs.kill("killed", number, steps_ahead, random.uniform(0, 0.5))
        logging.info("life %d of %d: %s", index + 1, kills, life)
        lives.append(life)
    lives.append(runs.finish("killed"))
    one, other = (_arrays(runs.folder / name) for name in ("whole", "killed"))
    differing = [*_differing(one, other), *_differing_lines(runs.folder)]
    return Survival(tuple(lives), steps, len(one), tuple(differing))


class _Runs:
    """Runs of one configuration, each process of them a command of its own."""

    def __init__(self, config: ConfigDict, folder: pathlib.Path, steps: int) -> None:
        self.folder = folder
        config = config.copy_and_resolve_references()
        config.stages = (config.stages[0],)
        config.stages[0].update({"epochs": steps, "max_steps": steps})
        config.checkpoint_every_steps = config.log_every_steps = 1
        (folder / "config").mkdir()
        config_lib.save(config, folder / "config")
        self._config = folder / "run_config.py"
        self._config.write_text(_CONFIG_FILE.format(folder=str(folder / "config")))
        self._environment = {  # a restart should not wait for compilations
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def finish(self, name: str) -> Life:
        """Starts a run, or goes on with it, to its end."""
        watched = _Watched(self._start(name), self.folder / name)
        watched.wait_for(1)
        return watched.ended("finished", 0)

    def kill(self, name: str, number: signal.Signals, ahead: int, seconds: float) -> Life:
        """Kills a run so many seconds after so many steps."""
        watched = _Watched(self._start(name), self.folder / name)
        watched.wait_for(1 + ahead)
        time.sleep(seconds)
        watched.process.send_signal(number)
        code = exit_codes.STOPPED if number == signal.SIGTERM else -number
        return watched.ended(number.name, code)

    def kill_at_start(self, name: str, seconds: float) -> Life:
        """Kills a run so many seconds after its start, wherever it is by then."""
        watched = _Watched(self._start(name), self.folder / name)
        time.sleep(seconds)
        watched.process.kill()
        return watched.ended("SIGKILL", -signal.SIGKILL)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "jaxreid.cli", "train", "--config", str(self._config)]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*words, "--workdir", str(self.folder / name)],
                env=self._environment,
                stdout=log,
                stderr=log,
            )


class _Watched:
    """A process, and the run that it trains, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], workdir: pathlib.Path) -> None:
        self.process, self._workdir = process, workdir
        self._began = time.perf_counter()
        self._seconds: float | None = None
        self._first = _last_saved(workdir)
        self._old_file = self._file()

    def _file(self) -> int:
        """Tells the logbook of one process from that of the one before, which it replaces."""
        path = self._workdir / logbook.FILE_NAME
        return path.stat().st_ino if path.exists() else 0

    def _steps(self) -> int:
        """New steps that this process has reported."""
        if self._file() == self._old_file:
            return 0
        lines = logbook.read(self._workdir)
        return max([line["step"] for line in lines], default=self._first) - self._first

    def wait_for(self, count: int) -> None:
        """Returns after so many new steps."""
        while (done := self._steps()) < count:
            if self.process.poll() is not None:
                raise RuntimeError(f"the run ended by itself:\n{self._log()}")
            if done and self._seconds is None:
                self._seconds = time.perf_counter() - self._began
            time.sleep(_PAUSE)
        if self._seconds is None:
            self._seconds = time.perf_counter() - self._began

    def ended(self, end: str, code: int) -> Life:
        """Waits for its end and looks at what it left."""
        if self.process.wait() != code:
            raise RuntimeError(f"exit code {self.process.returncode}, not {code}:\n{self._log()}")
        done, saved = self._steps(), _last_saved(self._workdir)
        torn = (self._workdir / checkpoint.FOLDER).glob(f"*{integrity.UNFINISHED}*")
        return Life(end, any(torn), done == 0, self._seconds, max(0, done - (saved - self._first)))

    def _log(self) -> str:
        return self._workdir.with_suffix(".log").read_text(errors="replace")[-3000:]


def _last_saved(workdir: pathlib.Path) -> int:
    names = (path.name for path in (workdir / checkpoint.FOLDER).glob("[0-9]*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def _arrays(workdir: pathlib.Path) -> Mapping[str, np.ndarray]:
    """All that the last checkpoint holds."""
    place = SingleDeviceSharding(jax.local_devices()[0])
    found = {}
    with checkpoint.Checkpoints(workdir) as checkpoints:
        for item in ("variables", "optimizer"):
            tree = checkpoints.restore_item(checkpoints.find("last"), item, place)
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
                found[f"{item}/{sharding.path_name(path)}"] = np.asarray(leaf)
    return found


def _differing(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        if name not in one or name not in other or one[name].tobytes() != other[name].tobytes():
            yield name


def _differing_lines(folder: pathlib.Path) -> Iterator[str]:
    """Lines of the logbooks that are not the same, or not there once; speed aside."""
    one, other = (
        [{**line, _FREE_OF_TIME: 0} for line in logbook.read(folder / name)]
        for name in ("whole", "killed")
    )
    if len(one) != len(other):
        yield f"{len(other)} lines instead of {len(one)}"
    for left, right in zip(one, other, strict=False):
        if json.dumps(left, sort_keys=True) != json.dumps(right, sort_keys=True):
            yield f"line of step {left['step']}"


def _rows(found: Survival) -> Sequence[tuple[str, str]]:
    killed = found.lives[:-1]
    saving = sum(life.saving for life in killed)
    seconds = [life.seconds for life in found.lives if life.seconds is not None]
    repeated = [life.repeated for life in killed]
    equal = "yes" if not found.differing else f"NO: {', '.join(found.differing[:10])}"
    count = {name: sum(life.end == name for life in killed) for name in ("SIGKILL", "SIGTERM")}
    return [
        ("kills", f"{count['SIGKILL']} SIGKILL, {count['SIGTERM']} SIGTERM"),
        ("", f"{saving} during a save, {sum(life.starting for life in killed)} before a step"),
        ("restart", f"{measure.Timing.of(seconds)} s to the first step"),
        ("computed twice", f"{sum(repeated)} steps, at most {max(repeated)} after a kill"),
        ("equal", f"{equal} ({found.arrays} arrays, and the lines of {logbook.FILE_NAME})"),
    ]
