"""Where files of weights come from, and that they are the ones that were meant."""

from __future__ import annotations

import hashlib
import importlib
import pathlib
import re
from typing import Any

from jaxreid import paths
from jaxreid.data import remote

# Files of the hub whose pages print the SHA-256.
_KNOWN = {
    "hf://timm/resnet50.tv_in1k/model.safetensors": (
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888"
    ),
}
# torchvision and others put the first digits of the SHA-256 into the name: resnet50-0676ba61.pth.
# Eight digits that begin with 20 are more likely a date.
_DIGEST_IN_NAME = re.compile(r"-(?!20\d{6}\.)([0-9a-f]{8,64})\.")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ACCEPTED = "It takes a path, hf://OWNER/REPO/FILE or gs://BUCKET/FILE."


def fetch(source: str, *, sha256: str, field: str) -> tuple[pathlib.Path, str]:
    """Returns a local file with the content of a source, and its SHA-256, which must be right.

    Args:
      source: a path, ``hf://OWNER/REPO/FILE`` (extra ``hub``) or ``gs://BUCKET/FILE`` (``gcs``).
      sha256: what its SHA-256 must be; empty: what the file's own name or its page says of it, if
        anything.
      field: what to call the source in errors.

    Raises:
      ValueError: there is no such file, it is another than was meant, or an extra is missing.
    """
    path = _local(source, field)
    wanted, told_by = sha256.lower(), "the config"
    if wanted and not _SHA256.fullmatch(wanted):
        raise ValueError(
            f"{field}_sha256 is {sha256!r}; it takes the 64 hexadecimal digits of a SHA-256."
        )
    if not wanted and source in _KNOWN:
        wanted, told_by = _KNOWN[source], "its page"
    elif not wanted and (named := _DIGEST_IN_NAME.search(path.name)):
        wanted, told_by = named[1], "its name"
    digest = digest_of(path, field)
    if not digest.startswith(wanted):
        raise ValueError(
            f"{field} is {source!r}, whose SHA-256 is {digest}; {told_by} says {wanted}. The file "
            "is not whole or not the one that was meant: fetch it again"
            + (", or rename it, if these digits are no SHA-256." if told_by == "its name" else ".")
        )
    return path, digest


def digest_of(path: pathlib.Path, field: str) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
      ValueError: the file cannot be read; ``field`` is named.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(
            f"{field} is {str(path)!r}, which cannot be read ({error.strerror})."
        ) from error


def _local(source: str, field: str) -> pathlib.Path:
    if source.startswith("hf://"):
        return _from_hub(source, field)
    if "://" in source and not paths.is_remote(source):
        raise ValueError(f"{field} is {source!r}. {_ACCEPTED} Download it and give its path.")
    path = remote.as_local(source, field)
    if path.is_dir():
        raise ValueError(f"{field} is {source!r}, a folder: name the file in it.")
    if not path.is_file():
        raise ValueError(f"{field} is {source!r}, and there is no such file. {_ACCEPTED}")
    return path


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
        file = hub.hf_hub_download(repo, "/".join(parts[2:]), revision=revision or None)
    except Exception as error:  # the hub's own, and those of whatever carries its requests
        raise ValueError(
            f"{field} is {source!r}, which could not be fetched: {paths.first_line(error)}. Check "
            "owner, repository and file, or fetch it elsewhere and give a path."
        ) from error
    return pathlib.Path(file)
