"""The command line: parse, call, print."""

from __future__ import annotations

import argparse
import contextlib
import logging as python_logging
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import flags, logging

from jaxreid import cli_bench, cli_config, cli_hosts, cli_plan, cli_train, exit_codes
from jaxreid import config as config_lib

_EXPORTS = ("torch", "stablehlo", "saved")

_MOVED_HELP = (
    f"for a run that was moved: --config.FIELD=VALUE, any of {', '.join(config_lib.FREE_FIELDS)}"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: words after ``jaxreid``; None for those of the process.

    Returns:
      0, or one of `exit_codes`.
    """
    arguments, rest = _parser().parse_known_args(argv)
    overrides = cli_config.split(rest)
    if overrides is None or (overrides and arguments.run in _WITHOUT_CONFIG):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.overrides = overrides
    # A cache would make the compile times of a measurement those of reading a file.
    _set_up(verbose=arguments.verbose, cache=arguments.command != "bench")
    from jaxreid import hosts, train  # JAX loads here, after the environment is set up

    try:
        return arguments.run(arguments) or 0
    except Exception as error:
        foreseen = isinstance(error, ValueError | OSError | train.TrainingDivergedError)
        words, code = (str(error), exit_codes.FAILED) if foreseen else _of_jax(error)
        if arguments.verbose or not words:
            traceback.print_exc()
        if words:
            print(f"jaxreid {arguments.command}: error: {words}", file=sys.stderr)
        return hosts.leave(code)


def _of_jax(error: Exception) -> tuple[str, int]:
    """Explains an error of JAX: what to say, empty for one that is not known, and the exit code."""
    from jaxreid import hosts

    text = str(error)
    if "RESOURCE_EXHAUSTED" in text:
        return (
            f"the memory of the devices is used up ({text.splitlines()[0]}). Take a smaller "
            "config.batch_size, --config.data.feed=host, the variants remat or bfloat16, or more "
            "devices; `jaxreid plan` tells what fits."
        ), exit_codes.FAILED
    if isinstance(error, RuntimeError) and hosts.joined():  # in an exchange with the others
        return (
            f"another process of this run was lost ({text}). Start all of them again with the same "
            "command: the run goes on from its last checkpoint."
        ), exit_codes.LOST
    return "", exit_codes.CRASHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxreid", description="Find a person in photographs from a description in words."
    )
    common = argparse.ArgumentParser(add_help=False)
    for place, default in ((parser, False), (common, argparse.SUPPRESS)):
        # A command's own default would undo "--verbose" before the command.
        place.add_argument(
            "--verbose", action="store_true", default=default, help="more logging, full tracebacks"
        )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None] | None, help: str):
        sub = commands.add_parser(
            name, help=help, description=help, allow_abbrev=False, parents=[common]
        )
        sub.set_defaults(run=run)
        return sub

    cli_train.add_to(command)
    cli_plan.add_to(command)

    sub = command("evaluate", _evaluate, "score a run on a split; writes eval/SPLIT.json")
    sub.add_argument("--workdir", required=True, help="folder of the run, also gs://...")
    sub.add_argument("--dataset", default="", help="another than the config's")
    sub.add_argument(
        "--split", default="", help="split; the config's test split, or query, by default"
    )
    sub.add_argument("--checkpoint", default="best", help="best (by validation) or last")
    sub.add_argument("--per_query", default="", metavar="FILE.csv", help="one row a query")
    cli_hosts.add_to(sub)
    sub.epilog = _MOVED_HELP

    sub = command("report", _report, "write report.html of a run")
    sub.add_argument("--workdir", required=True, help="folder of the run, also gs://...")
    sub.add_argument(
        "--beside",
        default="",
        metavar="WORKDIR",
        help="another AXM-Net, whose activation maps stand beside those of the run",
    )
    sub.epilog = _MOVED_HELP

    _add_exchange(command)

    sub = command("doctor", _doctor, "examine a folder of image files before a dataset is built")
    sub.add_argument("name", metavar="NAME", help="dataset that it should hold, or NAME/CONFIG")
    sub.add_argument("--manual_dir", required=True, metavar="DIR", help="the folder")
    sub.add_argument("--json", action="store_true", help="print one JSON object instead of a page")
    sub.add_argument(
        "--register", default="tfds_builders", help="package whose import registers builders"
    )

    sub = command("data", _data, "statistics and pictures of a dataset; builds a missing one")
    sub.add_argument("name", metavar="NAME", help="dataset or dataset/config")
    sub.add_argument("--data_dir", default="~/tensorflow_datasets", help="where datasets lie")
    sub.add_argument("--manual_dir", default="", help="folder of the files to build it from")
    sub.add_argument(
        "--register", default="tfds_builders", help="package whose import registers builders"
    )
    sub.add_argument("--out", default="", metavar="FILE.png", help="contact sheet; ./NAME.png")
    sub.add_argument("--json", action="store_true", help="print one JSON object instead of a table")

    sub = command("bench", None, "measure speed and memory here; needs no dataset")
    cli_bench.add_to(sub.add_subparsers(dest="what", required=True, metavar="WHAT"), common)
    return parser


def _add_exchange(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands that bring weights from other programs and take runs to them."""
    sub = command("convert", _convert, "weights of torch origin into a run, or another format")
    sub.add_argument("weights", metavar="WEIGHTS", help="path, hf://OWNER/REPO/FILE or gs://...")
    sub.add_argument("--to", default="", metavar="FILE", help="the same tensors as .safetensors")
    sub.add_argument("--workdir", default="", help="folder of a run to make of a whole network")
    sub.add_argument("--config", default="", metavar="FILE:PRESET", help=cli_config.HELP)
    sub.add_argument(
        "--vocabulary",
        default="",
        metavar="FILE",
        help="its words: vocabulary.json, reid_raw.json, ind2word.pkl, or one word a line",
    )

    sub = command("export", _export, "a run for other programs")
    sub.add_argument("--workdir", required=True, help="folder of the run, also gs://...")
    sub.add_argument("--to", required=True, metavar="FORMAT", help=" or ".join(_EXPORTS))
    sub.add_argument("--out", required=True, metavar="PATH", help="file (torch) or folder to write")
    sub.add_argument("--checkpoint", default="best", help="best (by validation) or last")
    sub.add_argument(
        "--backbone", action="store_true", help="torch: the image backbone alone, by its own names"
    )
    sub.add_argument(
        "--platforms",
        default="",
        help="stablehlo, saved: where it shall run, also rocm; cpu,cuda,tpu by default",
    )
    sub.epilog = _MOVED_HELP


def _set_up(*, verbose: bool, cache: bool) -> None:
    """Logging to the screen, and a compilation cache that outlives the process."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads absl's flags
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    if not verbose:
        logging.get_absl_handler().setFormatter(python_logging.Formatter("%(message)s"))
        logging.get_absl_handler().addFilter(_is_ours_or_a_warning)
    if cache:
        from jaxreid import compilation

        compilation.keep_programs()


def _is_ours_or_a_warning(record: python_logging.LogRecord) -> bool:
    """Keeps other libraries' progress off the screen."""
    here = pathlib.Path(__file__).parent
    if pathlib.Path(record.pathname).is_relative_to(here) or "/tfds_builders/" in record.pathname:
        return True
    # Orbax warns that a folder opened for reading only cannot be written, and that a checkpoint has
    # no score where it was not validated: that is the point.
    expected = "/orbax/" in record.pathname and re.search(
        "read.only|tracked_metric", record.getMessage()
    )
    return record.levelno >= python_logging.WARNING and not expected


def _evaluate(arguments: argparse.Namespace) -> None:
    from jaxreid import evaluate, tables

    overrides = cli_config.free_values(arguments.workdir, arguments.overrides)
    speaks = cli_hosts.join(arguments)
    result = evaluate.evaluate_run(
        arguments.workdir,
        dataset=arguments.dataset,
        split=arguments.split,
        checkpoint=arguments.checkpoint,
        per_query=arguments.per_query,
        overrides=overrides,
    )
    if speaks:
        print(tables.of_result(result))


def _report(arguments: argparse.Namespace) -> None:
    from jaxreid import report

    path = report.write_report(
        arguments.workdir,
        beside=arguments.beside,
        overrides=cli_config.free_values(arguments.workdir, arguments.overrides),
    )
    print(f"Wrote {path}")


def _convert(arguments: argparse.Namespace) -> None:
    from jaxreid import convert

    if bool(arguments.to) == bool(arguments.workdir):
        raise ValueError(
            "give one of --to FILE.safetensors (the same tensors in another format) and --workdir "
            "DIR (a run, with --config and --vocabulary)."
        )
    if arguments.to:
        if arguments.config or arguments.vocabulary:
            raise ValueError("--config and --vocabulary go with --workdir, not with --to.")
        file, weights = convert.convert_file(arguments.weights, arguments.to)
        print(f"Wrote {len(weights.tensors)} tensors to {file}.{_left(weights.others)}")
        print(f"SHA-256 of {arguments.weights}: {weights.sha256}")
        return
    if not arguments.config or not arguments.vocabulary:
        raise ValueError(
            "--workdir takes --config FILE:PRESET, the network that the weights belong to, and "
            "--vocabulary FILE, the words of its table."
        )
    config = cli_config.load(arguments.config, arguments.overrides)
    found = convert.convert_run(
        arguments.weights, config, arguments.workdir, vocabulary=arguments.vocabulary
    )
    weights = found.weights
    print(f"{weights.source}, SHA-256 {weights.sha256}:\n  {found.report}")
    print(f"{len(weights.tensors)} tensors.{_left(weights.others)}")
    print(f"{found.num_words:,} words, {found.num_classes:,} identities. Next:")
    print(f"  jaxreid evaluate --workdir {shlex.quote(arguments.workdir)}")


def _left(others: Sequence[str]) -> str:
    """Says what of a file is no tensor of a network."""
    return f" Not read, as no weights: {', '.join(others)}." if others else ""


def _export(arguments: argparse.Namespace) -> None:
    from jaxreid import convert, export

    if arguments.to not in _EXPORTS:
        raise ValueError(f"--to is {arguments.to!r}; it takes one of {', '.join(_EXPORTS)}.")
    where = arguments.workdir, arguments.out
    overrides = cli_config.free_values(arguments.workdir, arguments.overrides)
    if arguments.to == "torch":
        if arguments.platforms:
            raise ValueError("--platforms goes with --to stablehlo and saved.")
        file, count = convert.export_torch(
            *where, which=arguments.checkpoint, backbone=arguments.backbone
        )
        print(f"Wrote {count} tensors to {file}")
        return
    if arguments.backbone:
        raise ValueError("--backbone goes with --to torch; encoders are exported whole.")
    done = export.export_run(
        *where,
        to=arguments.to,
        checkpoint=arguments.checkpoint,
        platforms=tuple((arguments.platforms or "cpu,cuda,tpu").split(",")),
        overrides=overrides,
    )
    print(done.summary())


def _doctor(arguments: argparse.Namespace) -> int:
    from jaxreid.data import source

    builder = source.find_builder(arguments.name, data_dir="", register=arguments.register)
    if not hasattr(builder, "examine"):
        raise ValueError(
            f"NAME is {arguments.name!r}: this dataset is not made from files of yours, so there "
            "is no folder to examine. It takes a dataset with a manual_dir, such as cuhk_pedes."
        )
    examination = builder.examine(arguments.manual_dir)
    print(examination.to_json() if arguments.json else examination.text())
    return examination.exit_code


def _data(arguments: argparse.Namespace) -> None:
    from jaxreid import contact_sheet, explore
    from jaxreid.data import source

    where = {"data_dir": arguments.data_dir, "register": arguments.register}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where TFDS tells how far it is
            builder = source.find_builder(arguments.name, **where)
            source.prepare(builder, manual_dir=arguments.manual_dir)
    except ValueError as error:
        words = str(error).replace("config.data.name", "NAME").replace("config.data.", "--")
        raise ValueError(words) from error
    sheet = arguments.out or arguments.name.replace("/", "_") + ".png"
    contact_sheet.write_contact_sheet(builder, sheet)
    found = explore.explore(builder)
    print(
        found.to_json(contact_sheet=sheet) if arguments.json else f"{found.text()}\n\nWrote {sheet}"
    )


_WITHOUT_CONFIG = (*cli_bench.WITHOUT_CONFIG, _data, _doctor)


if __name__ == "__main__":
    sys.exit(main())
