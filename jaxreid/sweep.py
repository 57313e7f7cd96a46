"""Several runs from one config: seeds, or values of any field, one after another.

Each run is a process of its own, the command that a person would type for it. So its memory, that
of the accelerator too, is given back for certain, and one that is killed takes no other along.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jaxreid import batch_rule, exit_codes, files, logbook, paths, tables
from jaxreid import config as config_lib

FILE_NAME = "sweep.json"
SEED = "seed"
"""The field over whose values the scores of a setting are averaged."""

SCORES = {
    "t2i/rank1": "Rank-1",
    "t2i/rank5": "Rank-5",
    "t2i/rank10": "Rank-10",
    "t2i/map": "mAP",
    "i2t/rank1": "back, Rank-1",
}
"""Scores of the table, of the step with the best of the first one; sweep.json has all."""

_EXPLAINED = {exit_codes.FAILED, 2}  # 2 is argparse's
_STOPPED = (exit_codes.STOPPED, exit_codes.INTERRUPTED)
_CHOSEN_BY, _PREFIX = "val/t2i/rank1", "config."
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_LONGEST_NAME = 200
_UNSAFE = r"[^\w.+-]+"  # letters that some file system or shell does not take as they are

Setting = Mapping[str, str]
"""Values as they are written on the command line, by field."""


@dataclasses.dataclass
class Run:
    """One run of a sweep.

    Attributes:
      name: of its folder, by its values.
      setting: values of the fields that differ.
      workdir: its folder.
      config: with these values.
      state: "not begun", "finished", "failed" or "stopped".
      exit_code: of its process; None where none was started.
    """

    name: str
    setting: Setting
    workdir: str
    config: ConfigDict
    state: str = "not begun"
    exit_code: int | None = None


def parse(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Reads what ``--sweep`` was given.

    Values are separated by commas; those inside of brackets or quotes belong to a value.

    Args:
      words: each ``config.FIELD=VALUE,VALUE``.

    Returns:
      Values by field, as they were written.

    Raises:
      ValueError: a word is no such thing, or names a field or a value twice.

    >>> parse(["config.seed=0,1", "config.data.image_size=(96,32),(192,64)"])
    {'seed': ('0', '1'), 'data.image_size': ('(96,32)', '(192,64)')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, text = word.removeprefix("--").partition("=")
        values = _values(text)
        if values is None:
            raise ValueError(
                f"--sweep is {word!r}, in which a bracket or a quote has no partner, so where its "
                "values end cannot be told. Close it: config.data.image_size=(96,32),(192,64)."
            )
        if not name.startswith(_PREFIX) or name == _PREFIX or not equals or not all(values):
            raise ValueError(
                f"--sweep is {word!r}; it takes config.FIELD=VALUE,VALUE, for example "
                "config.seed=0,1,2. Commas inside of brackets or quotes belong to a value: "
                "config.data.image_size=(96,32),(192,64)."
            )
        name = name.removeprefix(_PREFIX)
        if name in found:
            raise ValueError(f"--sweep names config.{name} twice; give all its values at once.")
        if len({*values}) < len(values):
            raise ValueError(f"--sweep is {word!r}; a value stands in it twice. Give each once.")
        found[name] = values
    return found


def _values(text: str) -> tuple[str, ...] | None:
    """Splits at commas; None where brackets or quotes do not come in pairs."""
    pieces, quote = [""], ""
    closing: list[str] = []
    for letter in text:
        if letter == "," and not closing and not quote:
            pieces.append("")
            continue
        pieces[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif letter in _BRACKETS.values() and (not closing or closing.pop() != letter):
            return None
    if closing or quote:
        return None
    return tuple(piece.strip() for piece in pieces)


def plan(
    fields: Mapping[str, Sequence[str]],
    workdir: str | os.PathLike[str],
    load: Callable[[Setting], ConfigDict],
) -> list[Run]:
    """Lays out the runs: the product of all values, the first field changing slowest.

    Args:
      fields: values of each field.
      workdir: folder in which each run has one.
      load: gives the config of a setting.

    Raises:
      ValueError: a field or value is not accepted, two runs would share a folder, or the folder is
        that of a run.
    """
    if (paths.as_path(workdir, "--workdir") / config_lib.FILE_NAME).exists():
        raise ValueError(
            f"--workdir {str(workdir)!r} is the folder of a run; a sweep takes one for many: name "
            "another."
        )
    runs: dict[str, Run] = {}
    for values in itertools.product(*fields.values()):
        setting = dict(zip(fields, values, strict=True))
        name = folder_name(setting)
        if name in runs:
            raise ValueError(
                f"--sweep: {dict(runs[name].setting)} and {setting} would share the folder {name}; "
                "write one of these values otherwise."
            )
        runs[name] = Run(name, setting, os.path.join(workdir, name), load(setting))
    return list(runs.values())


def folder_name(setting: Setting) -> str:
    """Names the folder of a run by its values, in letters that any file system takes.

    >>> folder_name({"seed": "0", "stages[0].epochs": "3", "data.image_size": "(96, 32)"})
    'seed=0,stages-0.epochs=3,data.image_size=96-32'
    """
    parts = []
    for words in setting.items():
        bare = [re.sub(rf"^{_UNSAFE}|{_UNSAFE}$", "", word) for word in words]
        field, value = (re.sub(_UNSAFE, "-", word) for word in bare)
        parts.append(f"{field.replace('-.', '.')}={value}")
    name = ",".join(parts)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(json.dumps(dict(setting)).encode()).hexdigest()
    return f"{name[:_LONGEST_NAME]}-{digest[:8]}"


def run_all(
    runs: Sequence[Run], workdir: str | os.PathLike[str], words: Callable[[Run], Sequence[str]]
) -> int:
    """Trains the runs one after another; a failing one does not keep the others from it.

    What is finished is skipped, what was interrupted goes on. After each run the results so far are
    written to ``sweep.json``.

    Args:
      runs: see `plan`.
      workdir: folder of them all.
      words: the command that trains a run.

    Returns:
      0; `exit_codes.FAILED` if runs failed and all explained it, `exit_codes.CRASHED` if one did
      not; told to stop, with runs not begun, `exit_codes.STOPPED` or, by Ctrl-C, `INTERRUPTED`.

    Raises:
      OSError: the folder cannot be written.
    """
    paths.make_folder(paths.as_path(workdir))
    finished = _finished_before(workdir)
    with _Children() as children:
        for number, run in enumerate(runs, start=1):
            what = f"run {number} of {len(runs)}, {run.name}"
            if run.name in finished and _is_as_before(run):
                logging.info("%s: was finished already", what)
                run.state = "finished"
                continue
            logging.info("%s: begins or goes on in %s", what, run.workdir)
            run.exit_code = children.run(words(run))
            run.state = _state(run.exit_code, children.told_to_stop)
            logging.info("%s: %s", what, run.state)
            save(runs, workdir)
            if run.state == "stopped" or children.told_to_stop:
                by_hand = children.by_hand or run.exit_code == exit_codes.INTERRUPTED
                return exit_codes.INTERRUPTED if by_hand else exit_codes.STOPPED
    save(runs, workdir)
    codes = {run.exit_code for run in runs if run.state == "failed"}
    failed = exit_codes.FAILED if codes <= _EXPLAINED else exit_codes.CRASHED
    return failed if codes else 0


def _state(exit_code: int, told_to_stop: bool) -> str:
    if exit_code == 0:
        return "finished"
    # A signal also ends a process that is not yet, or no longer, training.
    stopped = exit_code in _STOPPED or (told_to_stop and exit_code < 0)
    return "stopped" if stopped else "failed"


def _finished_before(workdir: str | os.PathLike[str]) -> set[str]:
    """Names of the runs that an earlier call has finished."""
    path = paths.as_path(workdir) / FILE_NAME
    try:
        found = json.loads(path.read_text())["runs"]
        return {run["name"] for run in found if run["state"] == "finished"}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # then each run says by itself what it is


def _is_as_before(run: Run) -> bool:
    """Whether the folder holds this very run; if not, the run itself says what is wrong."""
    try:
        saved = config_lib.load(run.workdir)
        # The run would keep the batch that it began with; this process asks for no devices.
        devices = batch_rule.devices_of(saved, run.config)
        config = batch_rule.resolve(run.config, devices) if devices else run.config
        return not config_lib.differences(saved, config)
    except ValueError:
        return False


class _Children:
    """Runs commands one by one; told to stop, by SIGTERM, it tells the one that runs.

    Ctrl-C reaches both from the terminal, and a run that hears it twice ends without saving.

    Attributes:
      told_to_stop: whether it was.
      by_hand: whether by Ctrl-C.
    """

    def __init__(self) -> None:
        self.told_to_stop = self.by_hand = False
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> _Children:
        signals = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._told) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _told(self, number: int, _: object) -> None:
        self.told_to_stop = True
        self.by_hand |= number == signal.SIGINT
        if number == signal.SIGTERM:
            self._stop()

    def _stop(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)

    def run(self, words: Sequence[str]) -> int:
        """Runs a command to its end; returns its exit code, negative after a signal."""
        with subprocess.Popen(words) as self._child:
            if self.told_to_stop:  # before or while it was being started
                self._stop()
            code = self._child.wait()
        self._child = None
        return code


def command(*options: str) -> list[str]:
    """Returns the command line of ``jaxreid train`` with these options, by this Python."""
    return [sys.executable, "-m", "jaxreid.cli", "train", *options]


def best(workdir: str | os.PathLike[str]) -> tuple[int | None, dict[str, float]]:
    """Returns the step of a run with the best validation, and its scores; None where there is none.

    Args:
      workdir: the run's folder.
    """
    lines = [line for line in logbook.read(workdir) if _CHOSEN_BY in line]
    if not lines:
        return None, {}
    line = max(lines, key=lambda line: (line[_CHOSEN_BY], line["step"]))
    scores = {k.removeprefix("val/"): v for k, v in line.items() if k.startswith("val/")}
    return line["step"], scores


def results(runs: Sequence[Run]) -> dict[str, Any]:
    """Gathers what the runs have reached.

    Args:
      runs: of the sweep.

    Returns:
      ``runs``, each with its best validation, and ``settings``, mean and standard deviation of the
      finished runs that differ by nothing but the seed; the deviation is that of a sample, None
      where there is one run.
    """
    found: list[dict[str, Any]] = []
    groups: dict[str, tuple[Setting, list[Mapping[str, float]]]] = {}
    for run in runs:
        step, scores = best(run.workdir)
        kept = {"name": run.name, "setting": dict(run.setting), "workdir": run.workdir}
        reached = {"state": run.state, "exit_code": run.exit_code, "best_step": step}
        found.append({**kept, **reached, "scores": scores})
        others = {field: value for field, value in run.setting.items() if field != SEED}
        group = groups.setdefault(json.dumps(others), (others, []))
        if run.state == "finished" and scores:
            group[1].append(scores)
    return {"runs": found, "settings": [_summary(*group) for group in groups.values()]}


def _summary(setting: Setting, scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    names = scores[0] if scores else ()
    columns = {name: [one[name] for one in scores] for name in names}
    return {
        "setting": dict(setting),
        "count": len(scores),
        "mean": {name: statistics.fmean(values) for name, values in columns.items()},
        "std": {
            name: statistics.stdev(values) if len(values) > 1 else None
            for name, values in columns.items()
        },
    }


def save(runs: Sequence[Run], workdir: str | os.PathLike[str]) -> None:
    """Writes ``sweep.json``, see `results`."""
    text = json.dumps(results(runs), indent=2)
    files.write_atomically(paths.as_path(workdir) / FILE_NAME, text + "\n")


def table(runs: Sequence[Run]) -> str:
    """Writes the results for the screen.

    Args:
      runs: of the sweep, at least one.
    """
    found = results(runs)
    fields = list(runs[0].setting)
    rows = [["", *fields, "step", *SCORES.values(), ""]]
    for number, run in enumerate(found["runs"], start=1):
        scores = [_cell(run["scores"].get(name)) for name in SCORES]
        step = "-" if run["best_step"] is None else str(run["best_step"])
        rows.append([str(number), *run["setting"].values(), step, *scores, run["state"]])
    lines = ["Validation of each run's best step, percent:", *tables.align(rows)]
    if SEED not in fields:
        return "\n".join(lines)
    others = [field for field in fields if field != SEED]
    rows = [["", *others, "seeds", *SCORES.values()]]
    for number, setting in enumerate(found["settings"], start=1):
        cells = [_cell(setting["mean"].get(n), setting["std"].get(n)) for n in SCORES]
        values = setting["setting"].values()
        rows.append([str(number), *values, str(setting["count"]), *cells])
    title = "Mean ± standard deviation over the seeds that finished:"
    return "\n".join([*lines, "", title, *tables.align(rows)])


def _cell(value: float | None, deviation: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
