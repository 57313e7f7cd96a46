"""Person re-identification datasets with captions, for TensorFlow Datasets.

Importing this package registers its builders, so that `tfds.builder("synth_pedes/quickstart")` and
`tfds.data_source("cuhk_pedes", ...)` find them. TensorFlow is not needed.
"""

from tfds_builders.cross_re_id import cross_re_id_dataset_builder as _cross_re_id  # noqa: F401
from tfds_builders.cuhk_pedes import cuhk_pedes_dataset_builder as _cuhk_pedes  # noqa: F401
from tfds_builders.cuhk_sysu_pedes import (
    cuhk_sysu_pedes_dataset_builder as _cuhk_sysu_pedes,  # noqa: F401
)
from tfds_builders.folder_pedes import folder_pedes_dataset_builder as _folder_pedes  # noqa: F401
from tfds_builders.icfg_pedes import icfg_pedes_dataset_builder as _icfg_pedes  # noqa: F401
from tfds_builders.market1501_pedes import (
    market1501_pedes_dataset_builder as _market1501_pedes,  # noqa: F401
)
from tfds_builders.rstp_reid import rstp_reid_dataset_builder as _rstp_reid  # noqa: F401
from tfds_builders.synth_pedes import synth_pedes_dataset_builder as _synth_pedes  # noqa: F401
