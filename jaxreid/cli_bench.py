"""``jaxreid bench``: parse, call, print."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxreid import cli_config

if TYPE_CHECKING:
    from jaxreid import bench

_Run = Callable[[argparse.Namespace], None]
_Add = Callable[[str, _Run, str], argparse.ArgumentParser]

_AGAINST_HELP = (
    "measure PyTorch's networks of tests/reference, too, as written and tuned, in turn with ours"
)


def add_to(benches: Any, common: argparse.ArgumentParser) -> None:
    """Adds a parser for each measurement.

    Args:
      benches: what ``add_subparsers`` of the command has returned.
      common: parser of options that every command has.
    """

    def add(name: str, run: _Run, help: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = benches.add_parser(
            name, help=help, description=help, allow_abbrev=False, parents=[common]
        )
        sub.add_argument("--json", default="", metavar="FILE", help="also write the numbers here")
        sub.set_defaults(run=run)
        return sub

    _add_of_networks(add)
    _add_of_data(add)


def _add_of_networks(add: _Add) -> None:
    """Parsers of the benches that take a config."""

    def bench(name: str, run: _Run, help: str) -> argparse.ArgumentParser:
        sub = add(name, run, help)
        sub.add_argument("--config", required=True, metavar="FILE:PRESET", help=cli_config.HELP)
        return sub

    sub = bench("train", _bench_train, "the training step of a preset, on made-up data")
    sub.add_argument("--batch_size", type=int, help="pairs a step; the config's by default")
    sub.add_argument("--steps", type=int, default=0, help="timed steps; 0: as suits the device")
    sub.add_argument("--images", type=int, default=256, help="of the training split")
    sub.add_argument("--num_ids", type=int, default=11003, help="training identities")
    sub.add_argument("--vocab_size", type=int, default=5000, help="rows of the word table")
    sub.add_argument("--against", default="", choices=["torch"], help=_AGAINST_HELP)

    sub = bench("tpu", _bench_tpu, "the training step by the TPU's own compiler: an estimate")
    sub.add_argument("--topology", default="v5e:2x4", help="slice of a TPU pod; v5e:2x4")
    _add_estimated(sub)
    sub = bench("gpu", _bench_gpu, "the training step by XLA's compiler for GPUs: an estimate")
    sub.add_argument("--topology", default="h100", help="a GPU and how many of a host (h100x8)")
    _add_estimated(sub)

    sub = bench("scaling", _bench_scaling, "communication and memory on several devices, not run")
    sub.add_argument(
        "--devices", type=int, nargs="+", default=(1, 2, 4, 8), help="how many; 1 2 4 8"
    )
    sub.add_argument(
        "--batch_per_device", type=int, default=0, help="pairs; 0: the config's on the most devices"
    )
    sub.add_argument(
        "--topology", default="", help="TPU slice (v5e:2x4) or GPUs (h100x8); empty: virtual CPUs"
    )
    add_sizes(sub)

    sub = bench("profile", _bench_profile, "a trace of the training step, on made-up data")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of the trace")
    sub.add_argument("--batch_size", type=int, help="pairs a step; the config's by default")
    sub.add_argument("--steps", type=int, default=3, help="traced steps")
    sub.add_argument("--num_ids", type=int, default=11003, help="training identities")
    sub.add_argument("--vocab_size", type=int, default=5000, help="rows of the word table")

    sub = bench("embed", _bench_embed, "the encoders of a preset, on made-up data")
    sub.add_argument("--batch_size", type=int, help="images or captions; the config's by default")
    sub.add_argument("--images", type=int, default=0, help="images to embed; 0: 4 batches")
    sub.add_argument("--captions", type=int, default=0, help="captions to embed; 0: 16 batches")
    sub.add_argument("--repeats", type=int, default=3, help="timed passes")
    sub.add_argument("--vocab_size", type=int, default=5000, help="rows of the word table")
    sub.add_argument("--against", default="", choices=["torch"], help=_AGAINST_HELP)

    sub = bench(
        "survive", _bench_survive, "a small run killed again and again, beside one left alone"
    )
    sub.add_argument("--kills", type=int, default=20, help="how many; one in five is a SIGTERM")
    sub.add_argument("--seed", type=int, default=0, help="of the moments of the kills")


def _add_estimated(sub: argparse.ArgumentParser) -> None:
    """Adds what a step is compiled with for devices that are not here."""
    sub.add_argument("--batch_per_device", type=int, default=64, help="pairs a step on each")
    sub.add_argument("--dtype", default="bfloat16", help="of the computation, not the config's")
    add_sizes(sub)


def _add_of_data(add: _Add) -> None:
    """Parsers of the benches that take none."""
    sub = add("eval", _bench_eval, "retrieval metrics, on random embeddings")
    sub.add_argument("--queries", type=int, default=6156, help="captions")
    sub.add_argument("--gallery", type=int, default=3074, help="images")
    sub.add_argument("--dim", type=int, default=10240, help="width of the embeddings")
    sub.add_argument("--repeats", type=int, default=3, help="timed calls")
    sub.add_argument("--scaling", action="store_true", help="also time 1/16 and 1/4 of the pairs")

    sub = add("input", _bench_input, "images from files to the cache and on to the devices")
    sub.add_argument("--images", type=int, default=4000, help="files of each made-up set")
    height_width: dict[str, Any] = {"type": int, "nargs": 2, "metavar": ("HEIGHT", "WIDTH")}
    sub.add_argument("--image_size", default=(384, 128), help="pixels; 384 128", **height_width)
    sub.add_argument("--resize", default="bicubic", help="as config.data.resize")
    sub.add_argument("--batch_size", type=int, default=64, help="images a batch")
    sub.add_argument("--repeats", type=int, default=3, help="timed passes")

    sub = add("build", _bench_build, "a dataset from a made-up folder of image files")
    sub.add_argument("--dataset", default="cuhk_pedes", help="one that can make its files up")
    sub.add_argument("--images", type=int, default=40206, help="files; CUHK-PEDES has 40206")
    sub.add_argument(
        "--register", default="tfds_builders", help="package whose import registers builders"
    )


def _bench_train(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    config = cli_config.load(arguments.config, arguments.overrides)
    if arguments.batch_size is not None:
        config.batch_size = arguments.batch_size
    names = ("steps", "images", "num_ids", "vocab_size", "against")
    options = {name: getattr(arguments, name) for name in names}
    _show(bench.bench_train(config, **options), arguments.json)


def add_sizes(sub: argparse.ArgumentParser) -> None:
    """Adds the options that say how large the data is; CUHK-PEDES' by default."""
    sub.add_argument("--num_ids", type=int, default=11003, help="training identities")
    sub.add_argument("--vocab_size", type=int, default=5000, help="rows of the word table")
    sub.add_argument("--images", type=int, default=34054, help="of the training split")
    sub.add_argument("--captions", type=int, default=68126, help="of the training split")


def sizes(arguments: argparse.Namespace) -> Any:
    """Returns the sizes of the data that the options give, `bench.abstract.Sizes`."""
    from jaxreid.bench import abstract

    names = ("images", "captions", "num_ids", "vocab_size")
    return abstract.Sizes(**{name: getattr(arguments, name) for name in names})


def _bench_tpu(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    _show_estimate(bench.bench_tpu, arguments)


def _bench_gpu(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    _show_estimate(bench.bench_gpu, arguments)


def _show_estimate(run: Callable[..., bench.Measured], arguments: argparse.Namespace) -> None:
    config = cli_config.load(arguments.config, arguments.overrides)
    names = ("topology", "batch_per_device", "dtype")
    options = {name: getattr(arguments, name) for name in names}
    _show(run(config, sizes=sizes(arguments), **options), arguments.json)


def _bench_scaling(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    config = cli_config.load(arguments.config, arguments.overrides)
    names = ("devices", "batch_per_device", "topology")
    options = {name: getattr(arguments, name) for name in names}
    _show(bench.bench_scaling(config, sizes=sizes(arguments), **options), arguments.json)


def _bench_profile(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    config = cli_config.load(arguments.config, arguments.overrides)
    if arguments.batch_size is not None:
        config.batch_size = arguments.batch_size
    names = ("steps", "num_ids", "vocab_size")
    options = {name: getattr(arguments, name) for name in names}
    _show(bench.bench_profile(config, arguments.out, **options), arguments.json)


def _bench_embed(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    config = cli_config.load(arguments.config, arguments.overrides)
    if arguments.batch_size is not None:
        config.eval.batch_size = arguments.batch_size
    names = ("images", "captions", "repeats", "vocab_size", "against")
    options = {name: getattr(arguments, name) for name in names}
    _show(bench.bench_embed(config, **options), arguments.json)


def _bench_survive(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    config = cli_config.load(arguments.config, arguments.overrides)
    measured = bench.bench_survive(config, kills=arguments.kills, seed=arguments.seed)
    _show(measured, arguments.json)


def _bench_eval(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    names = ("queries", "gallery", "dim", "repeats", "scaling")
    _show(bench.bench_eval(**{name: getattr(arguments, name) for name in names}), arguments.json)


def _bench_input(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    names = ("images", "resize", "batch_size", "repeats")
    options = {name: getattr(arguments, name) for name in names}
    measured = bench.bench_input(image_size=tuple(arguments.image_size), **options)
    _show(measured, arguments.json)


def _bench_build(arguments: argparse.Namespace) -> None:
    from jaxreid import bench

    names = ("dataset", "images", "register")
    _show(bench.bench_build(**{name: getattr(arguments, name) for name in names}), arguments.json)


WITHOUT_CONFIG = (_bench_build, _bench_eval, _bench_input)


def _show(measured: bench.Measured, path: str) -> None:
    print(measured.table())
    if path:
        measured.write_json(path)
