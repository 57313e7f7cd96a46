"""The command ``jaxreid train``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence

from jaxreid import cli_config, cli_hosts


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command, by a function that makes the parser of one."""
    sub = command("train", _train, "train a run, or go on with one where it stopped")
    sub.add_argument("--config", required=True, metavar="FILE:PRESET", help=cli_config.HELP)
    sub.add_argument("--workdir", required=True, help="folder of the run, also gs://...")
    sub.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="config.FIELD=VALUE,VALUE",
        help="a run for each value, one after another, in folders below --workdir; given several "
        "times, for each combination. Commas inside of brackets or quotes belong to a value",
    )
    cli_hosts.add_to(sub)


def _train(arguments: argparse.Namespace) -> int:
    from jaxreid import exit_codes, train

    if arguments.sweep:
        return _sweep(arguments)
    config = cli_config.load(arguments.config, arguments.overrides)
    speaks = cli_hosts.join(arguments)
    done = train.train(config, arguments.workdir)
    if speaks:
        _tell(done, arguments.workdir)
    if done.get("stopped"):
        by_hand = done["cause"] == "SIGINT"
        return exit_codes.INTERRUPTED if by_hand else exit_codes.STOPPED
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    """Trains the runs of a sweep; JAX stays unused here, or it would hold the devices."""
    from jaxreid import hosts, sweep

    if arguments.coordinator or hosts.is_one_of_several():
        raise ValueError(
            "--sweep is for a single host, whose devices its runs take one after another. On "
            "several hosts start each run by itself, with a --workdir of its own."
        )
    fields = sweep.parse(arguments.sweep)
    both = sorted({*fields} & {*arguments.overrides})
    if both:
        raise ValueError(
            f"config.{both[0]} is given by --config.{both[0]} and by --sweep; leave one of them "
            "out."
        )

    def changed(setting: sweep.Setting) -> dict[str, Sequence[str]]:
        words = {field: [f"--config.{field}={value}"] for field, value in setting.items()}
        return {**arguments.overrides, **words}

    def command(run: sweep.Run) -> list[str]:
        words = [word for words in changed(run.setting).values() for word in words]
        verbose = ["--verbose"] * arguments.verbose
        where = ["--config", arguments.config, "--workdir", run.workdir]
        return sweep.command(*where, *words, *verbose)

    runs = sweep.plan(
        fields,
        arguments.workdir,
        lambda setting: cli_config.load(arguments.config, changed(setting)),
    )
    code = sweep.run_all(runs, arguments.workdir, command)
    print(sweep.table(runs))
    return code


def _tell(done: dict, workdir: str) -> None:
    if done.get("stopped"):
        what = "before its first step" if done["step"] is None else f"and saved at {done['step']}"
        print(f"The run in {workdir} was stopped by {done['cause']} {what}.")
        print("The same command goes on from there.")
        return
    state = "was finished already" if done["finished"] else "is finished"
    print(f"The run in {workdir} {state}: {done['step']} steps.")
    if done["best_step"] is None:
        print(
            "Nothing was validated: a network that encodes no image alone cannot be searched with."
        )
        return
    print(f"Best checkpoint by validation: step {done['best_step']}. Next:")
    print(f"  jaxreid evaluate --workdir {shlex.quote(str(workdir))}")
