"""Files of weights from other programs: where they come from, that they are whole, what is in them.

Formats are ``.safetensors``, ``.npz``, and torch's ``.pth`` and ``.pt`` (also ``.pth.tar``), for
which torch must be installed (extra ``reference``); code in a pickle is never run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from jaxreid.data.cache import default_cache_dir

FORMATS = ".safetensors, .npz, .pth, .pt, .pth.tar"

# Files of the hub whose pages print the SHA-256.
_KNOWN = {
    "hf://timm/resnet50.tv_in1k/model.safetensors": (
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888"
    ),
}
# torchvision and others put the first digits of the SHA-256 into the name: resnet50-0676ba61.pth.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What torch programs call the dictionary of weights inside a checkpoint.
_WRAPPERS = ("state_dict", "model")
# And where its names stand beside those of other modules, which keep the name of theirs.
_NETWORK = "network"
# Weights of a network that ran under DataParallel.
_PARALLEL = "module."


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """Tensors by name, and where they come from.

    Attributes:
      source: path or address, as it was given.
      sha256: of the file, hexadecimal.
      tensors: by name; of a dictionary of dictionaries ``outer.inner``, or ``inner`` where the
        outer one is called "network".
      others: what else is in the file, that is no tensor.
    """

    source: str
    sha256: str
    tensors: Mapping[str, np.ndarray]
    others: tuple[str, ...] = ()


def read(source: str | os.PathLike[str], *, sha256: str = "", field: str) -> WeightFile:
    """Reads a file of weights.

    Args:
      source: a path, ``hf://OWNER/REPO/FILE`` (extra ``hub``) or ``gs://BUCKET/FILE`` (``gcs``).
      sha256: what its SHA-256 must be; empty: what the file's own name or its page says of it, if
        anything.
      field: what to call the source in errors, ``config.pretrained``.

    Returns:
      Its tensors. A dictionary "state_dict" or "model" around them is opened, and "module." in
      front of every name is taken off.

    Raises:
      ValueError: there is no such file, it is not whole, or it is none of these formats.
    """
    source = str(source)
    path, digest = fetch_checked(source, sha256=sha256, field=field)
    reader = _reader(path, source, field)
    try:
        content = reader(path)
    except _UNREADABLE as error:
        raise ValueError(
            f"{field} is {source!r}, which cannot be read as {path.suffix} ({_first_line(error)}). "
            "It may be cut short, or be another kind of file: fetch it again and compare its size "
            "and SHA-256."
        ) from error
    tensors, others = _flatten(content)
    if not tensors:
        raise ValueError(
            f"{field} is {source!r}, which holds no tensors"
            + (f", only {', '.join(others[:5])}" if others else "")
            + ". It takes a file of weights: a dictionary of tensors by name."
        )
    return WeightFile(source, digest, tensors, others)


def fetch_checked(source: str, *, sha256: str, field: str) -> tuple[pathlib.Path, str]:
    """Returns a local file with the content of a source, and its SHA-256, which must be right.

    Args:
      source: see `read`.
      sha256: see `read`.
      field: see `read`.

    Raises:
      ValueError: there is no such file, or it is another than was meant.
    """
    path = fetch(source, field)
    return path, _checked_digest(path, sha256.lower(), source, field)


def fetch(source: str, field: str) -> pathlib.Path:
    """Returns a local file with the content of a source.

    Args:
      source: see `read`.
      field: what to call it in errors.

    Raises:
      ValueError: there is no such file, or an extra is missing.
    """
    if source.startswith("hf://"):
        return _from_hub(source, field)
    if "://" in source:
        return _from_bucket(source, field)
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise ValueError(
            f"{field} is {source!r}, and there is no such file. It takes a path, "
            "hf://OWNER/REPO/FILE or gs://BUCKET/FILE."
        )
    return path


def digest_of(path: pathlib.Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_digest(path: pathlib.Path, wanted: str, source: str, field: str) -> str:
    if wanted and not _SHA256.fullmatch(wanted):
        raise ValueError(
            f"{field}_sha256 is {wanted!r}; it takes the 64 hexadecimal digits of a SHA-256."
        )
    digest = digest_of(path)
    named = _DIGEST_IN_NAME.search(path.name)
    told_by = "the config" if wanted else "its page" if source in _KNOWN else "its name"
    wanted = wanted or _KNOWN.get(source, named[1] if named else "")
    if not digest.startswith(wanted):
        raise ValueError(
            f"{field} is {source!r}, whose SHA-256 is {digest}; {told_by} says {wanted}. The file "
            "is not whole or not the one that was meant: fetch it again."
        )
    return digest


def _from_hub(source: str, field: str) -> pathlib.Path:
    parts = source.removeprefix("hf://").split("/")
    if len(parts) < 3 or not all(parts):
        raise ValueError(
            f"{field} is {source!r}; it takes hf://OWNER/REPO/FILE, and OWNER/REPO@REVISION for "
            "another than the newest."
        )
    repo, _, revision = f"{parts[0]}/{parts[1]}".partition("@")
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{field} is {source!r}, which takes the package huggingface_hub: "
            "pip install 'jaxreid[hub]'."
        ) from error
    try:
        return pathlib.Path(
            hub.hf_hub_download(repo, "/".join(parts[2:]), revision=revision or None)
        )
    except Exception as error:  # the hub's own, and those of whatever carries its requests
        raise ValueError(
            f"{field} is {source!r}, which could not be fetched: {_first_line(error)}. Check "
            "owner, repository and file, or fetch it elsewhere and give a path."
        ) from error


def _from_bucket(source: str, field: str) -> pathlib.Path:
    """Copies a remote file into the cache, unless it is there already with the same size."""
    from etils import epath

    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    local = default_cache_dir() / "weights" / name / source.rsplit("/", 1)[-1]
    try:
        remote = epath.Path(source)
        if not local.is_file() or local.stat().st_size != remote.stat().length:
            local.parent.mkdir(parents=True, exist_ok=True)
            partial = local.with_name(f"{local.name}.partial")
            partial.write_bytes(remote.read_bytes())
            partial.replace(local)
    except Exception as error:  # those of fsspec and of each store's client
        raise ValueError(
            f"{field} is {source!r}, which could not be fetched: {_first_line(error)}. gs:// takes "
            "pip install 'jaxreid[gcs]' and credentials that may read the bucket."
        ) from error
    return local


def _reader(path: pathlib.Path, source: str, field: str) -> Callable[[pathlib.Path], Any]:
    if path.stat().st_size == 0:
        raise ValueError(f"{field} is {source!r}, an empty file: fetch it again.")
    name = path.name.lower()
    if name.endswith(".safetensors"):
        return safetensors.numpy.load_file
    if name.endswith(".npz"):
        return _read_npz
    if name.endswith((".pth", ".pt", ".pth.tar")):
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

    return torch.load(path, map_location="cpu", weights_only=True)


# `torch.load` gives RuntimeError for a cut archive and UnpicklingError for code in a pickle.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, AttributeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, safetensors.SafetensorError),
)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def _flatten(content: Any) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Tensors by name, whatever dictionaries they lie in, and the names of what is none."""
    tensors: dict[str, np.ndarray] = {}
    others: list[str] = []
    if not isinstance(content, Mapping):
        return tensors, (type(content).__name__,)
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            others += [str(name) for name in content if name != wrapper]
            content = content[wrapper]
            break
    for name, value in content.items():
        if isinstance(value, Mapping):
            inner, rest = _flatten(value)
            prefix = "" if name == _NETWORK else f"{name}."
            tensors |= {f"{prefix}{key}": array for key, array in inner.items()}
            others += [f"{name}.{key}" for key in rest]
        elif (array := _as_array(value)) is None:
            others.append(str(name))
        else:
            tensors[str(name)] = array
    if tensors and all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): array for name, array in tensors.items()}
    return tensors, tuple(others)


def _as_array(value: Any) -> np.ndarray | None:
    """A numpy array of a tensor, those of 16 bits widened; None of anything else."""
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "detach"):  # a tensor, told without importing torch
            return None
        value = value.detach()
        if value.is_floating_point() and value.itemsize < 4:  # numpy has no bfloat16
            value = value.float()
        value = value.numpy()
    if value.dtype in (np.float16, ml_dtypes.bfloat16):
        value = value.astype(np.float32)
    return value


def write(path: str | os.PathLike[str], tensors: Mapping[str, Any], *, field: str) -> None:
    """Writes tensors by name, whole or not at all.

    Args:
      path: ``.safetensors``, ``.npz``, or ``.pth`` or ``.pt`` (needs torch).
      tensors: arrays by name; for torch's formats also dictionaries of them, and plain numbers.
      field: what to call the path in errors.

    Raises:
      ValueError: another kind of file, or torch is missing.
      OSError: the file cannot be written.
    """
    path = pathlib.Path(path).expanduser()
    partial = path.with_name(f"{path.name}.partial")
    name = path.name.lower()
    if name.endswith((".pth", ".pt", ".pth.tar")):
        _write_torch(partial, tensors, str(path), field)
    elif name.endswith(".safetensors"):
        safetensors.numpy.save_file(_flatten(tensors)[0], partial)
    elif name.endswith(".npz"):
        arrays: dict[str, Any] = _flatten(tensors)[0]
        with partial.open("wb") as file:
            np.savez(file, **arrays)
    else:
        raise ValueError(f"{field} is {str(path)!r}; it takes a file of one of: {FORMATS}.")
    partial.replace(path)


def _write_torch(partial: pathlib.Path, tensors: Mapping[str, Any], path: str, field: str) -> None:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{field} is {path!r}, a file of torch, which is not installed: pip install "
            "'jaxreid[reference]', or write .safetensors."
        ) from error

    def as_torch(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: as_torch(inner) for name, inner in value.items()}
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value

    torch.save(as_torch(tensors), partial)
