"""Person re-identification datasets with captions, for TensorFlow Datasets.

Importing this package registers its builders, so that `tfds.builder("synth_pedes/quickstart")` and
`tfds.data_source("cuhk_pedes", ...)` find them. TensorFlow is not needed.
"""

from tfds_builders.cuhk_pedes import cuhk_pedes_dataset_builder as _cuhk_pedes  # noqa: F401
from tfds_builders.folder_pedes import folder_pedes_dataset_builder as _folder_pedes  # noqa: F401
from tfds_builders.synth_pedes import synth_pedes_dataset_builder as _synth_pedes  # noqa: F401
