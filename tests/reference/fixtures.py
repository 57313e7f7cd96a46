"""Writes what PyTorch makes of the tiny cases to files, for where there is no torch.

python -m tests.reference.fixtures
"""

import json
import math
import pathlib

import numpy as np

from tests.reference import cases
from tests.reference.cases import Arrays

FOLDER = pathlib.Path(__file__).parent / "fixtures"


def load(name: str) -> Arrays:
    """Reads the record of a case, see `record.record`; float64 was rounded to float32."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays: Arrays = {}
        for key, shapes in json.loads(str(file["index"])).items():
            start = 0
            for one, shape in shapes.items():
                stop = start + math.prod(shape)
                arrays[one] = file[key][start:stop].reshape(shape)
                start = stop
    return arrays


def save(name: str, arrays: Arrays) -> pathlib.Path:
    """Writes a record.

    One vector for each type, since thousands of small arrays would cost more for their names than
    for what they hold.
    """
    index: dict[str, dict[str, tuple[int, ...]]] = {}
    vectors: dict[str, list[np.ndarray]] = {}
    for one, value in arrays.items():
        value = value.astype(np.float32) if value.dtype == np.float64 else value
        index.setdefault(value.dtype.name, {})[one] = value.shape
        vectors.setdefault(value.dtype.name, []).append(value.ravel())
    path = FOLDER / f"{name}.npz"
    joined = {key: np.concatenate(some) for key, some in vectors.items()}
    np.savez_compressed(path, index=json.dumps(index), **joined)
    return path


def main() -> None:
    """Writes all."""
    from tests.reference import record

    FOLDER.mkdir(exist_ok=True)
    records = {name: record.record(case) for name, case in cases.FIXTURES.items()}
    for name, case in cases.BACKBONE_FIXTURES.items():
        records[name] = record.record_backbone(case)
    for name, arrays in records.items():
        path = save(name, arrays)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
