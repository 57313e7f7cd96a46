"""The made-up folder in the layout of CUHK-PEDES."""

import shutil

import pytest


@pytest.fixture(scope="session")
def source(cuhk_pedes_manual_dir):
    """The folder; only to be read."""
    return cuhk_pedes_manual_dir / "CUHK-PEDES"


@pytest.fixture
def folder(source, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(source, tmp_path / "CUHK-PEDES")
