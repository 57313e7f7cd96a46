"""Options of the commands that several hosts can run together."""

from __future__ import annotations

import argparse

from absl import logging


def add_to(sub: argparse.ArgumentParser) -> None:
    """Adds the options by which processes find each other."""
    group = sub.add_argument_group(
        "several hosts", "TPU pods and Slurm steps need none of these; see launch/README.md"
    )
    group.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="of process 0, told to all"
    )
    group.add_argument("--num_processes", type=int, metavar="N", help="of the run")
    group.add_argument("--process_id", type=int, metavar="I", help="of this one, 0 to N-1")


def join(arguments: argparse.Namespace) -> bool:
    """Joins the other processes; says whether this one speaks for all."""
    from jaxreid import hosts

    hosts.join(arguments.coordinator, arguments.num_processes, arguments.process_id)
    if not hosts.is_first():
        logging.set_verbosity(logging.WARNING)
    return hosts.is_first()
