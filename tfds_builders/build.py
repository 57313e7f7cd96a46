"""Builds a dataset of this package without TensorFlow.

  python -m tfds_builders.build synth_pedes/quickstart --data_dir ~/data
  python -m tfds_builders.build cuhk_pedes --data_dir ~/data --manual_dir ~/downloads

A build that was killed is started again with the same command. Exit code 1 and one message on
standard error if the dataset cannot be built.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence

import tensorflow_datasets as tfds

import tfds_builders  # which registers the builders
from tfds_builders.base import FILE_FORMAT, ArrayRecordBuilder


def available_builders() -> dict[str, tuple[type[ArrayRecordBuilder], list[str]]]:
    """Returns the builders that can be built here: name -> (class, names of its configs)."""
    classes: list[type[ArrayRecordBuilder]] = [ArrayRecordBuilder]
    for cls in classes:
        classes.extend(cls.__subclasses__())
    package = tfds_builders.__name__
    registered = [
        cls
        for cls in classes
        if cls.__dict__.get("VERSION") is not None and cls.__module__.split(".")[0] == package
    ]
    return {
        cls.name: (cls, list(cls.builder_configs))
        for cls in sorted(registered, key=lambda cls: cls.name)
    }


def make_builder(name: str, data_dir: str | None = None) -> ArrayRecordBuilder:
    """Makes the builder of a dataset of this package.

    Args:
      name: NAME or NAME/CONFIG.
      data_dir: where datasets lie; None for TFDS's default.

    Returns:
      The builder; nothing is built yet.

    Raises:
      ValueError: there is no such dataset or config; the message lists those that exist.
    """
    available = available_builders()
    dataset, _, config = name.partition("/")
    if dataset not in available:
        raise ValueError(
            f"dataset {name!r} does not exist; accepted: {', '.join(available)}, each also with a "
            "config, for example synth_pedes/quickstart"
        )
    configs = available[dataset][1]
    if config and config not in configs:
        raise ValueError(
            f"dataset {name!r} does not exist; accepted: "
            + ", ".join([dataset, *(f"{dataset}/{config}" for config in configs)])
        )
    return available[dataset][0](config=config or None, data_dir=data_dir)


def build(
    name: str,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    overwrite: bool = False,
) -> ArrayRecordBuilder:
    """Builds a dataset as ArrayRecord files, unless it is there already.

    Args:
      name: NAME or NAME/CONFIG.
      data_dir: where datasets lie; None for TFDS's default.
      manual_dir: folder with the files that a user has to fetch; None for
        `data_dir/downloads/manual`.
      overwrite: build anew even if the dataset is there; should that fail, the old one stays.

    Returns:
      The builder of the finished dataset.

    Raises:
      ValueError: no such dataset, the source files are not as they should be, or the dataset is
        there in another file format.
    """
    folder = pathlib.Path(make_builder(name, data_dir).data_dir)
    with _set_aside(folder, overwrite):
        builder = make_builder(name, data_dir)
        manual = pathlib.Path(manual_dir).expanduser() if manual_dir else None
        config = tfds.download.DownloadConfig(manual_dir=manual)
        builder.download_and_prepare(download_config=config)
    found = builder.info.file_format.value
    if found != FILE_FORMAT:
        raise ValueError(
            f"{folder} holds {found} files; accepted: {FILE_FORMAT}. Choose another data_dir, or "
            "overwrite what is there."
        )
    return builder


@contextlib.contextmanager
def _set_aside(folder: pathlib.Path, overwrite: bool) -> Iterator[None]:
    """Keeps the old dataset until the new one is finished; a failure brings it back."""
    aside = folder.with_name(f"replaced.{folder.name}")
    if overwrite and folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    try:
        yield
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.build",
        description="Builds a dataset as ArrayRecord files, without TensorFlow.",
    )
    parser.add_argument("name", metavar="NAME[/CONFIG]", help="for example synth_pedes/quickstart")
    parser.add_argument("--data_dir", help="where datasets lie (default: ~/tensorflow_datasets)")
    parser.add_argument("--manual_dir", help="folder with the files you fetched yourself")
    parser.add_argument("--overwrite", action="store_true", help="build anew if it is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; None for those of the process.

    Returns:
      Exit code: 0 built or there already, 1 an error that was reported.
    """
    args = _parser().parse_args(argv)
    try:
        builder = build(args.name, args.data_dir, args.manual_dir, args.overwrite)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        message = f"cannot build {args.name}: {error}; check data_dir and manual_dir"
        print(f"error: {message}", file=sys.stderr)
        return 1
    print(f"{builder.info.full_name} lies in {builder.data_dir}")
    for split, info in builder.info.splits.items():
        print(f"  {split}: {info.num_examples:,} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
