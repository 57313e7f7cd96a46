"""Text files that are there whole or not at all."""

from __future__ import annotations

import os
import pathlib


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file beside its final name, then moves it there: a kill leaves no half of it.

    Args:
      path: file to write or to replace; its folder must exist.
      text: the content, stored as UTF-8.

    Raises:
      OSError: the file cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
