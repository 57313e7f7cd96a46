"""CUHK-PEDES with its official splits, from a folder that the user has got from the authors."""

from __future__ import annotations

import pathlib
from typing import cast

import tensorflow_datasets as tfds

from tfds_builders.cuhk_pedes import annotations as annotations_lib
from tfds_builders.domains import DOMAINS, Domain
from tfds_builders.manual import Contents, ManualBuilder

PUBLISHED = annotations_lib.PUBLISHED
OFFICIAL = "official"

_DOMAIN_NAMES: dict[Domain, str] = {
    "sysu": "CUHK-SYSU",
    "cuhk01": "CUHK01",
    "cuhk03": "CUHK03",
    "market": "Market-1501",
    "viper": "VIPeR",
}


class Builder(ManualBuilder):
    """CUHK-PEDES (Li et al., CVPR 2017)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Official splits, whole or of one source dataset."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=OFFICIAL, description="Every image."),
        *(
            tfds.core.BuilderConfig(
                name=domain, description=f"Images that come from {_DOMAIN_NAMES[domain]}."
            )
            for domain in DOMAINS
        ),
    ]
    HOMEPAGE = "https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description"
    HOW_TO_GET = (
        "CUHK-PEDES is licensed, for academic use: ask its authors for it by mail from your "
        f"university's address (see {HOMEPAGE}), and put the folder under manual_dir."
    )
    EXPECTED_TREE = annotations_lib.EXPECTED_TREE
    USUAL_CAPTIONS = annotations_lib.USUAL_CAPTIONS

    def read(self, manual_dir: pathlib.Path) -> Contents:
        """Reads the annotations; see `ManualBuilder.read`."""
        name = self.builder_config_name
        if name in DOMAINS:
            return annotations_lib.read_domain(manual_dir, cast(Domain, name))
        return annotations_lib.read_official(manual_dir)
