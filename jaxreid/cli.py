"""The command line: parse, call, print."""

from __future__ import annotations

import argparse
import logging as python_logging
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

if TYPE_CHECKING:
    from jaxreid import bench

_CONFIG_HELP = "configs/FILE.py:PRESET[,VARIANT ...]; change fields by --config.FIELD=VALUE"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: words after ``jaxreid``; None for those of the process.

    Returns:
      0, or 1 after an error that was explained.
    """
    arguments, rest = _parser().parse_known_args(argv)
    if rest and not all(word.startswith("--config.") for word in _options(rest)):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and "config" not in arguments:
        _parser().error(f"{arguments.command} takes no {rest[0]!r}: it reads the run's own config")
    arguments.overrides = rest
    # A cache would make the compile times of a measurement those of reading a file.
    _set_up(verbose=arguments.verbose, cache=arguments.command != "bench")
    from jaxreid import train  # JAX loads here, after the environment is set up

    try:
        return arguments.run(arguments) or 0
    except (ValueError, OSError, train.TrainingDivergedError) as error:
        if arguments.verbose:
            raise
        print(f"jaxreid {arguments.command}: error: {error}", file=sys.stderr)
        return 1


def _options(words: Sequence[str]) -> list[str]:
    """Words that are options; a value that follows ``--config.field`` is none."""
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word.startswith("--") or not before.startswith("--config.") or "=" in before
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxreid", description="Find a person in photographs from a description in words."
    )
    parser.add_argument("--verbose", action="store_true", help="more logging, full tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], help: str):
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    sub = command("train", _train, "train a run, or go on with one where it stopped")
    sub.add_argument("--config", required=True, metavar="FILE:PRESET", help=_CONFIG_HELP)
    sub.add_argument("--workdir", required=True, help="folder of the run")

    sub = command("evaluate", _evaluate, "score a run on a split; writes eval/SPLIT.json")
    sub.add_argument("--workdir", required=True, help="folder of the run")
    sub.add_argument("--dataset", default="", help="another dataset than the run's")
    sub.add_argument("--split", default="", help="split; the config's test split by default")
    sub.add_argument("--checkpoint", default="best", help="best (by validation) or last")
    sub.add_argument("--per_query", default="", metavar="FILE.csv", help="one row a query")

    sub = command("report", _report, "write report.html of a run")
    sub.add_argument("--workdir", required=True, help="folder of the run")

    sub = command("bench", _bench_eval, "measure speed and memory here; needs no dataset")
    _add_benches(sub.add_subparsers(dest="what", required=True, metavar="train|eval"))
    return parser


def _add_benches(benches: Any) -> None:
    def bench(name: str, run: Callable[[argparse.Namespace], None], help: str):
        sub = benches.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.add_argument("--json", default="", metavar="FILE", help="also write the numbers here")
        sub.set_defaults(run=run)
        return sub

    sub = bench("train", _bench_train, "the training step of a preset, on made-up data")
    sub.add_argument("--config", required=True, metavar="FILE:PRESET", help=_CONFIG_HELP)
    sub.add_argument("--batch_size", type=int, help="pairs a step; the config's by default")
    sub.add_argument("--steps", type=int, default=0, help="timed steps; 0: as suits the device")
    sub.add_argument("--num_ids", type=int, default=11003, help="training identities")
    sub.add_argument("--vocab_size", type=int, default=5000, help="rows of the word table")

    sub = bench("eval", _bench_eval, "retrieval metrics, on random embeddings")
    sub.add_argument("--queries", type=int, default=6156, help="captions")
    sub.add_argument("--gallery", type=int, default=3074, help="images")
    sub.add_argument("--dim", type=int, default=10240, help="width of the embeddings")
    sub.add_argument("--repeats", type=int, default=3, help="timed calls")


def _set_up(*, verbose: bool, cache: bool) -> None:
    """Logging to the screen, and a compilation cache that outlives the process."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads absl's flags
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    if not verbose:
        logging.get_absl_handler().setFormatter(python_logging.Formatter("%(message)s"))
        logging.get_absl_handler().addFilter(_is_ours_or_a_warning)
    import jax

    from jaxreid.data.cache import default_cache_dir

    if cache and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(default_cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _is_ours_or_a_warning(record: python_logging.LogRecord) -> bool:
    """Keeps other libraries' progress off the screen."""
    if any(part in record.pathname for part in ("/jaxreid/", "/tfds_builders/")):
        return True
    # Orbax warns that a folder opened for reading only cannot be written: that is the point.
    expected = "/orbax/" in record.pathname and re.search("read.only", record.getMessage())
    return record.levelno >= python_logging.WARNING and not expected


def _load_config(value: str, overrides: Sequence[str]) -> ConfigDict:
    """Reads ``FILE:PRESET`` and applies ``--config.field=value``."""
    path = value.split(":", 1)[0]
    if not pathlib.Path(path).is_file():
        raise ValueError(
            f"--config {value!r}: there is no file {path!r}. Give a path to a file that defines "
            "get_config(), such as configs/ssan.py:quickstart."
        )
    values = flags.FlagValues()
    words = ["jaxreid", f"--config={value}", *overrides]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=words)
    try:
        values(words)
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
        reason = str(error.args[0] if error.args else error).strip()
        raise ValueError(
            f"{' '.join(overrides)}: {reason} The fields, each with a comment, are in {path}."
        ) from error
    return values["config"].value


def _train(arguments: argparse.Namespace) -> None:
    from jaxreid import train

    config = _load_config(arguments.config, arguments.overrides)
    done = train.train(config, arguments.workdir)
    state = "was finished already" if done["finished"] else "is finished"
    print(f"The run in {arguments.workdir} {state}: {done['step']} steps.")
    print(f"Best checkpoint by validation: step {done['best_step']}. Next:")
    print(f"  jaxreid evaluate --workdir {arguments.workdir}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from jaxreid import evaluate

    result = evaluate.evaluate_run(
        arguments.workdir,
        dataset=arguments.dataset,
        split=arguments.split,
        checkpoint=arguments.checkpoint,
        per_query=arguments.per_query,
    )
    print(evaluate.table(result))


def _report(arguments: argparse.Namespace) -> None:
    from jaxreid import report

    print(f"Wrote {report.write_report(arguments.workdir)}")


def _bench_train(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    config = _load_config(arguments.config, arguments.overrides)
    if arguments.batch_size is not None:
        config.batch_size = arguments.batch_size
    sizes = {name: getattr(arguments, name) for name in ("steps", "num_ids", "vocab_size")}
    _show(bench.bench_train(config, **sizes), arguments.json)


def _bench_eval(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    names = ("queries", "gallery", "dim", "repeats")
    _show(bench.bench_eval(**{name: getattr(arguments, name) for name in names}), arguments.json)


def _show(measured: bench.Measured, path: str) -> None:
    print(measured.table())
    if path:
        measured.write_json(path)


if __name__ == "__main__":
    sys.exit(main())
