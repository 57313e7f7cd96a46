"""Person re-identification datasets with captions, for TensorFlow Datasets.

Importing this package registers its builders, so that `tfds.builder("synth_pedes/quickstart")` and
`tfds.data_source("cuhk_pedes", ...)` find them. TensorFlow is not needed.
"""

import importlib
import pathlib

for _name in ("cuhk_pedes", "synth_pedes"):
    if (pathlib.Path(__file__).parent / _name / f"{_name}_dataset_builder.py").exists():
        importlib.import_module(f"tfds_builders.{_name}.{_name}_dataset_builder")
