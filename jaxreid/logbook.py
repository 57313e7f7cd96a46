"""What a run writes about itself: ``metrics.jsonl`` and TensorBoard files."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorboardX

from jaxreid import files

FILE_NAME = "metrics.jsonl"


class Logbook:
    """Scalars by step, one JSON object a line and one TensorBoard event each.

    Args:
      workdir: the run's folder.
      step: where the run starts or goes on; lines of later steps, written by a run that was killed
        after its last checkpoint, are taken out, for they will be written again.
    """

    def __init__(self, workdir: str | os.PathLike[str], *, step: int = 0) -> None:
        self.path = pathlib.Path(workdir) / FILE_NAME
        lines = read(workdir)
        kept = [line for line in lines if line["step"] <= step]
        files.write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", buffering=1)
        self._board = tensorboardX.SummaryWriter(
            str(pathlib.Path(workdir) / "tensorboard"), purge_step=step + 1 if lines else None
        )

    def write(self, step: int, scalars: Mapping[str, float], **more: Any) -> None:
        """Adds a line.

        Args:
          step: number of finished steps.
          scalars: name -> value; a name's part before ``/`` groups curves.
          **more: what else the line should hold, strings for example.
        """
        line = {"step": step, **more, **{key: float(value) for key, value in scalars.items()}}
        self._file.write(json.dumps(line) + "\n")
        for key, value in scalars.items():
            self._board.add_scalar(key, float(value), step)

    def close(self) -> None:
        """Writes out what is still in memory."""
        self._file.close()
        self._board.close()


class NoLogbook:
    """Stands for the logbook in the processes that write none."""

    def write(self, step: int, scalars: Mapping[str, float], **more: Any) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the lines of a run, leaving out one that a kill cut short.

    Args:
      workdir: the run's folder.

    Returns:
      One dictionary a line, in the order written; empty where there is no file.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break  # only the last line can be incomplete
    return lines
