"""Files of weights from other programs: that they are whole, and what is in them.

Formats are ``.safetensors``, ``.npz``, and torch's ``.pth`` and ``.pt`` (also ``.pth.tar``), for
which torch must be installed (extra ``reference``); code in a pickle is never run.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from jaxreid import files, paths, weight_sources
from jaxreid.paths import AnyPath

FORMATS = ".safetensors, .npz, .pth, .pt, .pth.tar"

_TORCH = (".pth", ".pt", ".pth.tar")
# What torch programs call the dictionary of a network's weights inside a checkpoint.
_WRAPPERS = ("state_dict", "model", "network")
# Modules that SSAN's released program saves beside its network.
_BESIDE = ("W", "WL", "WN")
# What checkpoints hold of training, which is no weight.
_OF_TRAINING = ("optimizer", "optim", "scheduler", "lr_scheduler")
# Weights of a network that ran under DataParallel.
_PARALLEL = "module."


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """Tensors by name, and where they come from.

    Attributes:
      source: path or address, as it was given.
      sha256: of the file, hexadecimal.
      tensors: by name; of a dictionary of dictionaries ``outer.inner``, or ``inner`` where the
        outer one is the network ("state_dict", "model", "network").
      others: what else is in the file, that is no tensor of a network.
    """

    source: str
    sha256: str
    tensors: Mapping[str, np.ndarray]
    others: tuple[str, ...] = ()


def read(source: str | os.PathLike[str], *, sha256: str = "", field: str) -> WeightFile:
    """Reads a file of weights.

    Args:
      source: a path, ``hf://OWNER/REPO/FILE`` (extra ``hub``) or ``gs://BUCKET/FILE`` (``gcs``).
      sha256: what its SHA-256 must be, see `weight_sources.fetch`.
      field: what to call the source in errors, ``config.pretrained``.

    Returns:
      Its tensors; "module." in front of every name is taken off, and floats of 16 bits are widened
      to 32.

    Raises:
      ValueError: there is no such file, it is not whole, or it is none of these formats.
    """
    source = str(source)
    path, digest = weight_sources.fetch(source, sha256=sha256, field=field)
    reader = _reader(path, source, field)
    where = f"{field} is {source!r}"
    try:
        content = reader(path)
    except _UNREADABLE as error:
        raise ValueError(f"{where}, {_why(path, error)}") from error
    others: list[str] = []
    tensors = _flatten(content, where, others)
    if not tensors:
        raise ValueError(
            f"{where}, which holds no tensors"
            + (f", only {', '.join(others[:5])}" if others else "")
            + ". It takes a file of weights: a dictionary of tensors by name."
        )
    return WeightFile(source, digest, tensors, tuple(others))


def _reader(path: pathlib.Path, source: str, field: str) -> Callable[[pathlib.Path], Any]:
    if path.stat().st_size == 0:
        raise ValueError(f"{field} is {source!r}, an empty file: fetch it again.")
    name = path.name.lower()
    if name.endswith(".safetensors"):
        return safetensors.numpy.load_file
    if name.endswith(".npz"):
        return _read_npz
    if name.endswith(_TORCH):
        try:
            importlib.import_module("torch")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{field} is {source!r}, a file of torch, which is not installed: pip install "
                "'jaxreid[reference]', or convert the file to .safetensors where torch is: "
                "jaxreid convert FILE --to FILE.safetensors."
            ) from error
        return _read_torch
    raise ValueError(f"{field} is {source!r}; it takes a file of one of these kinds: {FORMATS}.")


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_torch(path: pathlib.Path) -> Any:
    import torch
    from numpy._core.multiarray import scalar

    # Programs keep their best score beside the weights, often as a scalar of NumPy.
    numpy_scalars: list[Any] = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),  # as NumPy 1 wrote it
        np.dtype,
        *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
    ]
    with torch.serialization.safe_globals(numpy_scalars):
        return torch.load(path, map_location="cpu", weights_only=True)


# What the three readers were seen to give for cut files, flipped bytes and refused code.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, AttributeError),
    *(IndexError, AssertionError, struct.error, zlib.error),
    *(pickle.UnpicklingError, zipfile.BadZipFile, safetensors.SafetensorError),
)


def _why(path: pathlib.Path, error: BaseException) -> str:
    """What is the matter with a file that cannot be read, and what to do."""
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error))
    if "TorchScript" in text:
        return (
            "a TorchScript program. Load it with torch.jit.load, save model.state_dict() by "
            "torch.save, and give that file."
        )
    code = re.search(r"GLOBAL (\S+)", text)
    if isinstance(error, pickle.UnpicklingError) and code:
        return (
            f"which holds {code[1]}: code, and not weights alone, so it was not loaded. Where you "
            "trust it, load it with torch, save model.state_dict() and give that file."
        )
    return (
        f"which cannot be read as {path.suffix} ({paths.first_line(error)}). It may be "
        "cut short, or be another kind of file: fetch it again and compare its size and SHA-256."
    )


def _flatten(content: Any, where: str, others: list[str]) -> dict[str, np.ndarray]:
    """Tensors by name, whatever dictionaries they lie in; the names of the rest go to `others`."""
    if not isinstance(content, Mapping):
        others.append(type(content).__name__)
        return {}
    tensors: dict[str, np.ndarray] = {}

    def add(found: Mapping[str, np.ndarray], prefix: str = "") -> None:
        for name, array in found.items():
            if prefix + name in tensors:
                raise ValueError(f"{where}, in which two tensors have the name {prefix}{name}.")
            tensors[prefix + name] = array

    networks = [name for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
    if len(networks) > 1:
        raise ValueError(
            f"{where}, which holds several networks: {', '.join(networks)}. Save the one that is "
            "meant in a file of its own."
        )
    for name in networks:
        add(_flatten(content[name], where, others))
    for key, value in content.items():
        name = str(key)
        if key in networks:
            continue
        if name in _OF_TRAINING or (networks and name not in _BESIDE):
            others.append(name)
        elif isinstance(value, Mapping):
            add(_flatten(value, where, others), f"{name}.")
        elif (array := _as_array(value, name, where)) is None:
            others.append(name)
        else:
            add({name: array})
    if tensors and all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): array for name, array in tensors.items()}
    return tensors


def _as_array(value: Any, name: str, where: str) -> np.ndarray | None:
    """A numpy array of a tensor, those of 16 bits widened; None of anything else."""
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "detach"):  # a tensor, told without importing torch
            return None
        value = value.detach()
        if value.is_floating_point() and value.itemsize < 4:  # numpy has no bfloat16
            value = value.float()
        try:
            value = value.numpy()
        except (TypeError, RuntimeError) as error:  # sparse and quantized ones
            raise ValueError(
                f"{where}, whose tensor {name} is no plain array "
                f"({paths.first_line(error)}): save it dense."
            ) from error
    if value.dtype in (np.float16, ml_dtypes.bfloat16):
        value = value.astype(np.float32)
    # Files may keep other byte and axis orders, which not every writer looks at.
    return np.asarray(value, value.dtype.newbyteorder("="), order="C")


def check_name(path: str | os.PathLike[str], field: str) -> AnyPath:
    """Refuses a file to write that is there already, or of a kind that cannot be written.

    Args:
      path: of the file.
      field: what to call it in errors.

    Returns:
      The path.

    Raises:
      ValueError: the file exists, is of another kind, or takes torch, which is missing.
    """
    path = paths.as_path(path, field).expanduser()
    name = path.name.lower()
    with paths.explained(path, field):
        exists = path.exists()
    if exists:
        raise ValueError(f"{field} {str(path)!r} exists; name a new file.")
    if not name.endswith((".safetensors", ".npz", *_TORCH)):
        raise ValueError(f"{field} is {str(path)!r}; it takes a file of one of: {FORMATS}.")
    if name.endswith(_TORCH):
        try:
            importlib.import_module("torch")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{field} is {str(path)!r}, a file of torch, which is not installed: pip install "
                "'jaxreid[reference]', or write .safetensors."
            ) from error
    return path


def write(path: str | os.PathLike[str], tensors: Mapping[str, Any], *, field: str) -> None:
    """Writes tensors by name, whole or not at all.

    Args:
      path: file that is not there yet: ``.safetensors``, ``.npz``, or ``.pth`` or ``.pt``, which
        need torch.
      tensors: arrays by name; for torch's formats also dictionaries of them, and plain numbers.
      field: what to call the path in errors.

    Raises:
      ValueError: see `check_name`.
      OSError: the file cannot be written.
    """
    path = check_name(path, field)
    try:
        with paths.explained(path, field), files.whole(path) as partial:
            if path.name.lower().endswith(_TORCH):
                _write_torch(partial, tensors)
            elif path.name.lower().endswith(".safetensors"):
                safetensors.numpy.save_file(dict(tensors), partial)
            else:
                _write_npz(partial, tensors)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise OSError(
            f"{field} {str(path)!r} cannot be written: {paths.first_line(error)}."
        ) from error


def _write_npz(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    # By hand, since `np.savez` takes names as keywords and has some of its own.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _write_torch(path: pathlib.Path, tensors: Mapping[str, Any]) -> None:
    import torch

    def as_torch(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: as_torch(inner) for name, inner in value.items()}
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value

    torch.save(as_torch(tensors), path)
