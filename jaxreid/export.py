"""The encoders of a trained run as files for serving, which need no jaxreid where they run.

Two formats. ``stablehlo``: programs that `jax.export` reads, with their weights. ``saved``: a
SavedModel of TensorFlow. Both take any number of images or sentences at a time, and both are
compared with the run itself before they lie where they were asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jinja2
import numpy as np
from jax import export

import jaxreid
from jaxreid import files, paths, retrieval, runs, saved_model
from jaxreid.data import augment
from jaxreid.paths import AnyPath
from jaxreid.typing import PyTree

FORMATS = ("stablehlo", "saved")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
DESCRIPTION_FILE = "export.json"
README_FILE = "README.txt"
FILES = {"image": "image_encoder.jaxexport", "text": "text_encoder.jaxexport"}
"""Of the format ``stablehlo``, by modality."""
SIGNATURES = saved_model.SIGNATURES
BATCH_SIZES = (1, 3)
"""Sizes at which the files are compared with the run."""

_COMPATIBILITY = (
    "By the promise of jax.export, JAX up to 6 months newer or 3 weeks older can run it."
)

_FILTERS = {
    "bicubic": "Pillow's filter BICUBIC",
    "bilinear": "Pillow's filter BILINEAR",
    "area": "OpenCV's INTER_AREA (INTER_CUBIC where a side grows)",
}

Served = Mapping[str, Callable[..., np.ndarray]]
"""What was written, read again: inputs -> [b, D] by modality."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written, and how near to the run it is.

    Attributes:
      folder: where it lies.
      to: its format, one of `FORMATS`.
      step: of the checkpoint.
      platforms: that the programs are for.
      checked_on: platform on which they were compared with the run.
      distances: largest distance between the run's embedding and the file's, by modality; each
        branch of an embedding has length 1.
      tolerance: largest distance that was accepted.
    """

    folder: AnyPath
    to: str
    step: int
    platforms: tuple[str, ...]
    checked_on: str
    distances: Mapping[str, float]
    tolerance: float

    def summary(self) -> str:
        """One line for the command line."""
        found = ", ".join(f"{value:.1e} ({name})" for name, value in self.distances.items())
        return (
            f"Wrote step {self.step} to {self.folder} for {', '.join(self.platforms)}. On "
            f"{self.checked_on}, embeddings lie at most {found} from the run's; "
            f"{self.tolerance:.0e} is accepted."
        )


@dataclasses.dataclass(frozen=True)
class Encoder:
    """One encoder, to be written.

    Attributes:
      run: (variables, *inputs) -> [b, D] float32.
      inputs: shape of each input without its batch axis, and its type, by name.
    """

    run: Callable[..., jax.Array]
    inputs: Mapping[str, tuple[tuple[int, ...], Any]]

    def shapes(self, batch: Any) -> list[jax.ShapeDtypeStruct]:
        """Inputs of that many rows, or of a symbolic number of them."""
        return [jax.ShapeDtypeStruct((batch, *row), dtype) for row, dtype in self.inputs.values()]


def export_run(
    workdir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str,
    checkpoint: str = "best",
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    overrides: Mapping[str, Any] | None = None,
) -> Exported:
    """Writes a run's encoders of images and of sentences for serving.

    Beside them lie the vocabulary, ``export.json`` (inputs, outputs, versions, what was compared)
    and ``README.txt`` (how to use them). The folder is there whole or not at all; in a bucket its
    files are copied one by one, after the comparison.

    Args:
      workdir: folder of the run.
      out: folder to make; there may be an empty one.
      to: "stablehlo" or "saved", which needs TensorFlow.
      checkpoint: "best" (by validation) or "last".
      platforms: that the programs are for, out of `PLATFORMS`; that of this process among them.
      overrides: values of the config for a run that was moved, see `retrieval.load_run`.

    Returns:
      What was written.

    Raises:
      ValueError: ``out`` holds something, a platform is unknown, the network cannot encode one
        modality alone or cannot be exported, or what was written computes something else than the
        run.
    """
    platforms = tuple(platforms)
    checked_on = _check_request(to, platforms)
    folder = _free_folder(out)
    if to == "saved":
        saved_model.import_tensorflow()  # refused before time is spent on the run
    run = retrieval.load_run(workdir, which=checkpoint, overrides=overrides)
    encoders, tolerance = _encoders(run), _tolerance(run)
    write = saved_model.write if to == "saved" else _write_stablehlo
    with _whole(folder) as partial:
        with _explained(run, platforms):
            served = write(encoders, jax.device_get(run.variables), partial, platforms)
        distances = _compare(run, served, tolerance)
        done = Exported(folder, to, run.step, platforms, checked_on, distances, tolerance)
        _describe(run, encoders, done, partial)
    return done


def _check_request(to: str, platforms: tuple[str, ...]) -> str:
    """Refuses what no run can be written for; returns the platform of the comparison."""
    if to not in FORMATS:
        raise ValueError(f"--to is {to!r}; it takes {' or '.join(FORMATS)}.")
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms or len(set(platforms)) < len(platforms):
        raise ValueError(
            f"--platforms is {','.join(platforms)!r}; it takes one or more of "
            f"{', '.join(PLATFORMS)}, each once."
        )
    # TensorFlow is kept off accelerators, which JAX holds.
    here = "cpu" if to == "saved" else export.default_export_platform()
    if here not in platforms:
        raise ValueError(
            f"--platforms is {','.join(platforms)!r}, and what is written is compared with the run "
            f"on {here}, where this process computes: add {here}."
        )
    return here


def _free_folder(out: str | os.PathLike[str]) -> AnyPath:
    folder = paths.as_path(out, "--out").expanduser()
    if not paths.is_remote(folder):
        folder = folder.absolute()
    with paths.explained(out, "--out"):
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken:
        raise ValueError(f"--out {str(out)!r} is there already and not empty: name a new folder.")
    return folder


@contextlib.contextmanager
def _whole(folder: AnyPath) -> Iterator[pathlib.Path]:
    """A local folder to fill, which becomes `folder` at the end, or goes where anything fails."""
    is_remote = paths.is_remote(folder)
    paths.make_folder(folder.parent)
    near = None if is_remote else folder.parent
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=near) as beside:
        # One below, since temporary folders are closed to other users.
        partial = pathlib.Path(beside) / folder.name
        partial.mkdir()
        yield partial
        if is_remote:
            paths.upload(partial, folder)
        else:
            partial.replace(folder)


def _encoders(run: retrieval.Run) -> dict[str, Encoder]:
    data, dtype = run.config.data, jnp.dtype(run.config.dtype)

    def encode_image(model: nn.Module, variables: PyTree, images: jax.Array) -> jax.Array:
        pixels = augment.normalise(images, mean=data.mean, std=data.std, dtype=dtype)
        found: Any = model.apply(variables, pixels, method="encode_image")
        return found["embedding"]

    def encode_text(
        model: nn.Module, variables: PyTree, tokens: jax.Array, lengths: jax.Array
    ) -> jax.Array:
        found: Any = model.apply(variables, tokens, lengths, method="encode_text")
        return found["embedding"]

    images = {"images": ((*data.image_size, 3), np.uint8)}
    captions = {"tokens": ((data.max_tokens,), np.int32), "lengths": ((), np.int32)}
    return {
        "image": Encoder(_by_platform(run.model, encode_image), images),
        "text": Encoder(_by_platform(run.model, encode_text), captions),
    }


def _by_platform(model: nn.Module, encode: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The encoder, written for the platform that will run it.

    "auto" would ask which platform this process uses, see `platforms.PLATFORMS`.
    """
    if getattr(model, "platform", "") != "auto":
        return functools.partial(encode, model)
    on_cpu, on_tpu, elsewhere = (
        functools.partial(encode, model.clone(platform=platform))
        for platform in ("cpu", "tpu", "gpu")
    )

    def chosen(*args: Any) -> jax.Array:
        return jax.lax.platform_dependent(*args, cpu=on_cpu, tpu=on_tpu, default=elsewhere)

    return chosen


def _write_stablehlo(
    encoders: Mapping[str, Encoder],
    variables: PyTree,
    folder: pathlib.Path,
    platforms: tuple[str, ...],
) -> Served:
    """Writes a program for each modality, for one device and any number of rows."""
    variables = jax.tree.map(jnp.asarray, variables)
    served = {}
    for modality, encoder in encoders.items():
        program = _export(modality, encoder, variables, platforms)
        path = folder / FILES[modality]
        path.write_bytes(program.serialize())
        served[modality] = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return served


def _export(
    modality: str, encoder: Encoder, variables: PyTree, platforms: tuple[str, ...]
) -> export.Exported:
    def encode(*inputs: jax.Array) -> jax.Array:
        return encoder.run(variables, *inputs)

    encode.__name__ = f"encode_{modality}"  # which errors of JAX call it by
    inputs = encoder.shapes(*export.symbolic_shape("b"))
    return export.export(jax.jit(encode), platforms=platforms)(*inputs)


@contextlib.contextmanager
def _explained(run: retrieval.Run, platforms: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError):  # what the network, JAX or the disk refuses, it explains
        raise
    except Exception as error:  # a network of somebody else's may hold anything
        raise ValueError(
            f"the encoders of {run.config.model.name!r} cannot be exported for "
            f"{', '.join(platforms)} with any number of rows: {error}"
        ) from error


def _tolerance(run: retrieval.Run) -> float:
    """Largest distance between two embeddings that rounding explains.

    Sums of float32 in another order: 2e-6 was seen on ResNet-50. bfloat16 keeps 8 bits of a value
    and accelerators multiply float32 with 8 or 11, so a rounding that falls the other way counts
    for 1e-3 or more at every layer: 1.4e-2 was seen. Colours in the wrong order make 5e-2 to 2e-1.
    """
    exact = run.config.dtype == "float32" and jax.default_backend() == "cpu"
    return 1e-4 if exact else 5e-2


def _compare(run: retrieval.Run, served: Served, tolerance: float) -> dict[str, float]:
    """Largest distance from the run's own embeddings, by modality, on made-up inputs."""
    found: dict[str, list[float]] = {modality: [] for modality in served}
    for count in BATCH_SIZES:
        images, tokens, lengths = _made_up(run, count)
        ours = {
            "image": run.embed_images(images),
            "text": run.encoder.captions(run.variables, tokens, lengths),
        }
        theirs = {"image": served["image"](images), "text": served["text"](tokens, lengths)}
        for modality in served:
            difference = np.asarray(theirs[modality]) - ours[modality]
            found[modality].append(float(np.linalg.norm(difference, axis=1).max()))
    distances = {modality: float(np.max(each)) for modality, each in found.items()}
    for modality, distance in distances.items():
        if not distance <= tolerance:  # NaN is no agreement
            raise ValueError(
                f"encode_{modality} as written lies {distance:.1e} from the run's own embeddings, "
                f"and {tolerance:.0e} is accepted; nothing was kept. Please report it, with the "
                "run's config.json."
            )
    return distances


def _made_up(run: retrieval.Run, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, tokens and lengths of sentences, from the longest down to one without a word."""
    random = np.random.default_rng(count)
    longest = run.config.data.max_tokens
    images = random.integers(0, 256, (count, *run.config.data.image_size, 3), np.uint8)
    tokens = random.integers(1, len(run.vocabulary), (count, longest), np.int32)
    lengths = np.linspace(longest, 0, count).astype(np.int32)
    return images, np.where(np.arange(longest) < lengths[:, None], tokens, 0), lengths


def _describe(
    run: retrieval.Run, encoders: Mapping[str, Encoder], done: Exported, folder: pathlib.Path
) -> None:
    """Writes what goes with the encoders: vocabulary, export.json, README.txt."""
    run.vocabulary.to_json(folder / runs.VOCABULARY_FILE)
    facts = _facts(run, encoders, done)
    files.write_atomically(folder / DESCRIPTION_FILE, json.dumps(facts, indent=2) + "\n")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxreid"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    height, width = run.config.data.image_size
    page = environment.get_template("export.txt.j2").render(
        facts,
        height=height,
        width=width,
        filter=_FILTERS[run.config.data.resize],
        max_tokens=run.config.data.max_tokens,
        first_word_id=run.vocabulary.first_word_id,
        unknown=run.vocabulary.unknown,
        description_file=DESCRIPTION_FILE,
    )
    files.write_atomically(folder / README_FILE, page + "\n")


def _facts(run: retrieval.Run, encoders: Mapping[str, Encoder], done: Exported) -> dict[str, Any]:
    """Content of export.json."""
    model, data = run.config.model, run.config.data
    kind, names = ("file", FILES) if done.to == "stablehlo" else ("signature", SIGNATURES)
    output = jax.eval_shape(encoders["image"].run, run.variables, *encoders["image"].shapes(1))
    described: dict[str, dict[str, Any]] = {
        modality: {
            kind: names[modality],
            "inputs": {
                name: {"dtype": np.dtype(dtype).name, "shape": ["b", *row]}
                for name, (row, dtype) in encoder.inputs.items()
            },
            "output": {"dtype": output.dtype.name, "shape": ["b", output.shape[1]]},
        }
        for modality, encoder in encoders.items()
    }
    described["image"] |= {"colours": "RGB", "resize": data.resize}
    described["text"] |= {"vocabulary": runs.VOCABULARY_FILE, "max_tokens": data.max_tokens}
    return {
        "format": "jaxreid-export",
        "version": 1,
        "to": done.to,
        "run": {"network": model.name, "dtype": run.config.dtype, "checkpoint": run.which}
        | {"step": run.step},
        "encoders": described,
        "platforms": list(done.platforms),
        "checked": {
            "platform": done.checked_on,
            "batch_sizes": list(BATCH_SIZES),
            "largest_distance": dict(done.distances),
            "tolerance": done.tolerance,
        },
        "versions": _versions(done.to),
        "compatibility": _COMPATIBILITY,
    }


def _versions(to: str) -> dict[str, str]:
    packages = ("jax", "jaxlib", *(("tensorflow",) if to == "saved" else ()))
    return {"jaxreid": jaxreid.__version__} | {
        name: importlib.import_module(name).__version__ for name in packages
    }
