"""The command ``jaxreid plan``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from jaxreid import cli_bench, cli_config

# Not one of a run that failed, but of a question that was answered with no.
_DOES_NOT_FIT = 1


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command, by a function that makes the parser of one."""
    sub = command("plan", _plan, "memory and hours of a run on devices that need not be here")
    sub.add_argument("--config", required=True, metavar="FILE:PRESET", help=cli_config.HELP)
    sub.add_argument(
        "--topology",
        required=True,
        help="slice of a TPU pod (v5e:2x4, v5p:4x4x4, v6e:16x16) or GPUs (h100x8, a100-40x4)",
    )
    cli_bench.add_sizes(sub)
    sub.add_argument("--json", default="", metavar="FILE", help="also write the numbers here")
    sub.epilog = (
        "Pairs on each device: --config.batch_per_device=64. Exit code 0 where the step fits, 1 "
        "where it does not."
    )


def _plan(arguments: argparse.Namespace) -> int:
    from jaxreid import plan

    config = cli_config.load(arguments.config, arguments.overrides)
    found = plan.plan(config, arguments.topology, sizes=cli_bench.sizes(arguments))
    print(found.table())
    if arguments.json:
        found.write_json(arguments.json)
    return 0 if found.numbers["fits"] else _DOES_NOT_FIT
