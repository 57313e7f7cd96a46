"""What the sets with query and gallery share, tried on cross_re_id."""

import json

import pytest

from tfds_builders import query_gallery
from tfds_builders.build import build, make_builder
from tfds_builders.cross_re_id import dummy_data
from tfds_builders.cuhk_pedes import dummy_data as cuhk_pedes
from tfds_builders.manual import Record

NAMES = ["cross_re_id", "cuhk_sysu_pedes", "market1501_pedes"]


@pytest.fixture
def manual(tmp_path):
    """A folder that a test may spoil."""
    folder = tmp_path / "manual"
    dummy_data.make(folder, own_split=True)
    return folder


def read(manual, config="seed0"):
    return make_builder(f"cross_re_id/{config}", str(manual / "data")).read(manual)


def rewrite(manual, keep):
    path = manual / "CUHK-PEDES/reid_raw.json"
    path.write_text(json.dumps([r for r in json.loads(path.read_text()) if keep(r)]))


@pytest.mark.parametrize("name", NAMES)
def test_ten_seeds_and_an_own_split(name):
    cls = type(make_builder(name))
    assert list(cls.builder_configs) == [*(f"seed{n}" for n in range(10)), "own_split"]
    assert make_builder(name).builder_config.name == "seed0"
    assert [config.seed for config in cls.BUILDER_CONFIGS] == [*range(10), 0]
    assert f"{name}_split.json" == cls.SPLIT_FILE
    assert cls.SPLIT_FILE in cls.EXPECTED_TREE
    assert "reid_raw.json" in cls.MANUAL_DOWNLOAD_INSTRUCTIONS


@pytest.mark.parametrize("name", NAMES)
def test_features_and_descriptions(name):
    builder = make_builder(name)
    common = {"image", "image_id", "person_id", "camera_id", "captions"}
    assert set(builder.info.features) == common | {"view"}
    assert builder.SPLIT_FILE in builder.info.description
    assert f"python -m tfds_builders.build {name} " in builder.info.description
    assert "SEED/view of ID/VIEW" in builder.info.description
    assert "AXM-Net" in builder.info.citation
    assert "Person Search with Natural Language" in builder.info.citation


def test_no_own_split_file_is_a_fault(manual):
    (manual / "cross_re_id_split.json").unlink()
    contents = read(manual, "own_split")
    (fault,) = contents.faults
    assert fault.startswith(
        "config cross_re_id/own_split needs your own division, cross_re_id_split.json, in "
        f"manual_dir = {manual}"
    )
    assert 'accepted: {"query": ["Market/' in fault
    assert "What to do: put it there, or build cross_re_id/seed0" in fault
    assert len(contents.splits["train"]) == 58
    assert set(contents.splits) == {"train", "val"}
    assert not any(line.startswith("query") for line in contents.differences)


def test_an_own_split_file_may_lie_beside_the_annotations(manual):
    split = manual / "cross_re_id_split.json"
    split.rename(manual / "CUHK-PEDES" / split.name)
    assert len(read(manual, "own_split").splits["gallery"]) == 2
    assert len(read(manual / "CUHK-PEDES", "own_split").splits["gallery"]) == 2


def test_a_wrong_own_split_file_is_a_fault(manual, tmp_path):
    split = manual / "cross_re_id_split.json"
    split.write_text("[]")
    assert "cross_re_id_split.json holds a list. Accepted" in read(manual, "own_split").faults[0]
    dummy_data.write_split(split, ["Market/none.jpg", "cam_a/001_45.bmp"], ["cam_a/010_45.bmp"])
    with pytest.raises(ValueError, match="images that the annotations do not have") as error:
        build("cross_re_id/own_split", str(tmp_path / "data"), str(manual))
    assert 'accepted: images with "split": "test"' in str(error.value)
    assert "cam_a/001_45.bmp. What to do" in str(error.value)


def test_nothing_to_divide_is_a_fault(manual, tmp_path):
    rewrite(manual, lambda record: record["split"] != "test")
    (fault,) = read(manual).faults
    assert fault.startswith("query and gallery would be empty; accepted: identities to train with")
    assert "What to do: see that the annotation file has all splits" in fault
    with pytest.raises(ValueError, match="query and gallery would be empty"):
        build("cross_re_id", str(tmp_path / "data"), str(manual))


def test_nothing_to_train_with_is_a_fault(manual):
    rewrite(manual, lambda record: record["split"] == "test")
    (fault,) = read(manual).faults
    assert fault.startswith("train would be empty")


def test_faults_of_cuhk_pedes_stand(manual):
    cuhk_pedes.write_json(manual / "CUHK-PEDES", [*cuhk_pedes.records(), 7])
    contents = read(manual)
    assert "1 of 21 records are not as they should be" in contents.faults[0]


def test_what_is_odd_about_cuhk_pedes_is_said_to_be_so(manual):
    contents = read(manual)
    assert "CUHK-PEDES, 1 test ids with one image: 12303" in contents.notes
    assert "CUHK-PEDES, train: 58 images, published 34,054 (-33,996)" in contents.differences
    # Reports show the first lines only: what is this set's own comes first.
    for lines in (contents.notes, contents.differences):
        of_source = [line.startswith("CUHK-PEDES, ") for line in lines]
        assert of_source == sorted(of_source)


def test_a_missing_image_is_refused(manual, tmp_path):
    (manual / "CUHK-PEDES/imgs/cam_a/010_45.bmp").unlink()
    with pytest.raises(ValueError, match=r"1 of \d+ annotated images are missing"):
        build("cross_re_id", str(tmp_path / "data"), str(manual))


def test_another_own_split_is_another_set(manual, tmp_path):
    name, data_dir = "cross_re_id/own_split", str(tmp_path / "data")
    build(name, data_dir, str(manual))
    build(name, data_dir, str(manual))  # the same files: nothing to do
    images = dummy_data.IMAGES["test", 12007]
    dummy_data.write_split(manual / "cross_re_id_split.json", images[:1], images[2:])
    with pytest.raises(ValueError, match="was built from other files"):
        build(name, data_dir, str(manual))
    builder = build(name, data_dir, str(manual), overwrite=True)
    assert builder.info.splits["gallery"].num_examples == 2


def test_ids_that_stand_elsewhere_are_part_of_the_fingerprint(manual):
    contents = read(manual)
    fields = {"folder": contents.folder, "image_root": contents.image_root, "splits": {}}
    digests = [
        query_gallery.QueryGalleryContents(**fields, files=contents.files, ids=ids).fingerprint()
        for ids in ((), (1, 2), (1, 3), (1, 2))
    ]
    assert digests[0] == contents.fingerprint()
    assert len(set(digests)) == 3
    assert digests[1] == digests[3]


def test_partition_keeps_identities_together():
    records = [Record(f"{n}.jpg", n // 2, ("A man.",), -1) for n in range(100)]
    train, val, notes = query_gallery.partition(records, 5, seed=0)
    assert (len(train), len(val), notes) == (90, 10, [])
    assert not {r.person_id for r in train} & {r.person_id for r in val}
    _, other, _ = query_gallery.partition(records, 5, seed=1)
    assert other != val
    _, val, notes = query_gallery.partition(records, 200, seed=0)
    assert len(val) == 10
    assert notes == [
        "val has 5 ids instead of 200: at most a tenth of the 50 ids that are not in the test, of "
        "two or more at least one"
    ]
