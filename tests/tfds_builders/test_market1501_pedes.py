"""market1501_pedes on a small made-up folder."""

import json
import shutil

import pytest
import tensorflow_datasets as tfds

from tfds_builders.build import build, make_builder
from tfds_builders.cross_re_id.dummy_data import IMAGES
from tfds_builders.market1501_pedes import dummy_data, official_ids

RAW = {"image": tfds.decode.SkipDecoding()}
# Of every official split; the id 12005, of Market's 509, is seen by one camera of Market only.
TESTED = {31, 11006, 12009, 12011}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    dummy_data.make(folder, own_split=True)
    return folder


@pytest.fixture
def manual(source, tmp_path):
    """Annotations and list without images, which a test may spoil."""
    folder = tmp_path / "manual"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("imgs"))
    (folder / "CUHK-PEDES/imgs").mkdir()
    return folder


@pytest.fixture(scope="module")
def data_dir(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    for name in ("market1501_pedes", "market1501_pedes/own_split"):
        build(name, str(path), str(source))
    return path


def read_back(data_dir, split, name="market1501_pedes"):
    source = tfds.data_source(name, split=split, data_dir=data_dir, decoders=RAW)
    return {example["image_id"].decode(): example for example in source}


def people(examples):
    return {int(example["person_id"]) for example in examples.values()}


def contents(folder, config="seed0"):
    return make_builder(f"market1501_pedes/{config}", str(folder / "none")).read(folder)


def rewrite(manual, change):
    path = manual / "CUHK-PEDES/reid_raw.json"
    path.write_text(json.dumps([change(record) for record in json.loads(path.read_text())]))


def test_the_test_ids_are_the_official_ones_of_every_split(source, data_dir):
    train, val, query, gallery = (
        read_back(data_dir, split) for split in ("train", "val", "query", "gallery")
    )
    assert people(query) == people(gallery) == TESTED
    records = json.loads((source / "CUHK-PEDES/reid_raw.json").read_text())
    assert people(train) | people(val) == {r["id"] for r in records} - TESTED - {12005}
    assert not people(train) & people(val)
    # A tenth of the 36 ids that are not tested.
    assert len(people(val)) == 3
    folders = {path.rpartition("/")[0] for path in [*train, *val]}
    assert folders >= {"cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "train_query", "test_query"}
    for path, example in {**query, **gallery}.items():
        assert example["view"].decode() == f"c{example['camera_id']}"
        assert path.startswith("Market/")


def test_what_is_left_out_is_counted_and_named(data_dir):
    left_out = tfds.builder("market1501_pedes", data_dir=data_dir).info.metadata["left_out"]
    nobody = left_out.pop("images in Market/ of no identity (-1 junk, 0000 distractor)")
    assert nobody["count"] == 4
    assert set(nobody["first"]) >= {
        "Market/-1_c1s1_000001_00.jpg",
        "Market/0000_c2s1_000001_00.jpg",
    }
    assert left_out == {
        "images in Market/ whose name does not tell the id": {
            "count": 1,
            "images": 1,
            "first": ["Market/odd name.jpg"],
        },
        "images of test ids that are not from Market-1501": {
            "count": 1,
            "images": 1,
            "first": ["CUHK01/0971003.png"],
        },
        "test ids seen in one view only": {"count": 1, "images": 1, "first": [12005]},
    }
    kept = {path for s in ("train", "val", "query", "gallery") for path in read_back(data_dir, s)}
    assert not {"Market/odd name.jpg", "CUHK01/0971003.png", *nobody["first"]} & kept


def test_what_is_published_stands_beside_what_was_found(source, data_dir):
    metadata = tfds.builder("market1501_pedes", data_dir=data_dir).info.metadata
    assert "6 official test ids read, published 750" in metadata["differences"]
    missing = "1 official test ids of Market-1501 without an annotated image: 900"
    assert missing in metadata["differences"]
    assert "train: 33 ids, published 11,253 (-11,220)" in metadata["differences"]
    assert f"6 test ids read from {source / 'market1501_test_ids.txt'}" in metadata["notes"]
    sizes = {count.name: count.published for count in contents(source).counts}
    assert (sizes["train"].images, sizes["train"].captions) == (34_191, 68_396)
    assert (sizes["query"].images, sizes["query"].captions) == (1_173, 2_346)
    assert (sizes["gallery"].images, sizes["gallery"].captions) == (1_816, 3_632)
    assert sizes["val"] is None


def test_a_seed_draws_the_validation_too(manual):
    parts = [contents(manual, f"seed{seed}").splits for seed in (0, 0, 1, 2, 3)]
    assert parts[0] == parts[1]
    assert len({part["val"] for part in parts}) > 2
    assert len({part["query"] for part in parts}) > 2


# --- where the official ids stand ---


@pytest.mark.parametrize("name", official_ids.FOLDERS)
def test_a_copy_of_market_tells_the_ids_by_its_file_names(manual, tmp_path, name):
    listed = contents(manual)
    dummy_data.make(tmp_path / "other", test_ids="copy")
    (manual / dummy_data.LIST).unlink()
    (tmp_path / "other/Market-1501-v15.09.15").rename(manual / name)
    found = contents(manual)
    assert found.splits == listed.splits
    assert found.fingerprint() == listed.fingerprint()
    assert {
        f"6 test ids read from {manual / name} (bounding_box_test and query)",
        f"2 files of {name} that are no images of an identity: -1_c3s1_000005_01.jpg, "
        "0000_c3s1_000006_01.jpg.jpg",
        f"1 files of {name} named otherwise, passed over: Thumbs.db",
    } <= set(found.notes)


def test_one_of_the_two_folders_will_do(manual):
    (manual / dummy_data.LIST).unlink()
    folder = manual / "market1501/query"
    folder.mkdir(parents=True)
    (folder / "0600_c1s1_000001_00.jpg").touch()
    assert {r.person_id for r in contents(manual).splits["query"]} == {12009}


def test_neither_list_nor_copy(manual, tmp_path):
    (manual / dummy_data.LIST).unlink()
    with pytest.raises(ValueError, match="which 750 ids of Market-1501 are its") as error:
        build("market1501_pedes", str(tmp_path / "data"), str(manual))
    text = str(error.value)
    assert f"no market1501_test_ids.txt and no copy of Market-1501 in manual_dir = {manual}" in text
    assert "found there: CUHK-PEDES/, market1501_pedes_split.json" in text
    assert "Market-1501, Market-1501-v15.09.15, Market1501, market1501 with bounding_box_t" in text
    assert "What to do: put one of them there" in text


def test_a_copy_without_the_test_folders(manual):
    (manual / dummy_data.LIST).unlink()
    (manual / "Market-1501/bounding_box_train").mkdir(parents=True)
    (fault,) = contents(manual).faults
    assert "Market-1501 (without bounding_box_test and query) has no id" in fault
    assert "a list market1501_test_ids.txt counts before a folder" in fault


@pytest.mark.parametrize(
    "text", ["600\n200\n", "\ufeff0600\r\n\r\n 200 \r\n600", "600\n-1\n0000\n200"]
)
def test_a_list_in_any_order_and_with_zeros(manual, text):
    (manual / dummy_data.LIST).write_text(text, encoding="utf-8")
    found = contents(manual)
    assert {r.person_id for r in found.splits["query"]} == {12009, 31}
    passed = "2 lines of market1501_test_ids.txt with -1 or 0, no ids: -1, 0000"
    assert (passed in found.notes) is ("-1" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("600\n12009\nid\n", "has 2 lines that are no id: line 2: '12009', line 3: 'id'"),
        ("600, 700\n", "has 1 lines that are no id: line 1: '600, 700'"),
        ("\u0666\n", "has 1 lines that are no id: line 1"),
        ("\n", "has no id"),
        ("0\n", "has no id"),
    ],
)
def test_a_list_that_is_none(manual, text, message):
    (manual / dummy_data.LIST).write_text(text, encoding="utf-8")
    (fault,) = contents(manual).faults
    assert message in fault
    assert "accepted: an id of Market-1501, 1 to 1501" in fault
    assert "What to do" in fault


def test_a_list_that_is_not_utf8(manual):
    (manual / dummy_data.LIST).write_bytes(b"6\xe900\n")
    assert "is not UTF-8 text" in contents(manual).faults[0]


def test_a_folder_in_place_of_the_list(manual):
    (manual / dummy_data.LIST).unlink(missing_ok=True)
    (manual / dummy_data.LIST).mkdir()
    assert "cannot be read (Is a directory); accepted: one id" in contents(manual).faults[0]


def test_a_list_of_other_ids(manual):
    (manual / dummy_data.LIST).write_text("1201\n1202\n")
    (fault,) = contents(manual).faults
    assert fault.startswith("none of the 2 test ids (1201, 1202) stands in the name of an ann")
    assert "has ids of CUHK-PEDES, write those of Market-1501 instead" in fault


def test_another_list_is_another_set(manual):
    before = contents(manual).fingerprint()
    (manual / dummy_data.LIST).write_text("600\n")
    assert contents(manual).fingerprint() != before


# --- annotations that are odd ---


def test_a_person_under_two_ids_is_noted(manual):
    paths = IMAGES["test", 12009]
    rewrite(manual, lambda r: r | {"id": 12500} if r["file_path"] in paths[3:] else r)
    note = "1 test ids of Market-1501 that stand under several ids: 600 (12009 and 12500)"
    assert note in contents(manual).notes


def test_double_endings_in_the_annotations(manual):
    rewrite(
        manual,
        lambda r: (
            r | {"file_path": r["file_path"] + ".jpg"}
            if r["file_path"] in IMAGES["test", 12009]
            else r
        ),
    )
    sides = contents(manual).splits
    found = [r for r in sides["query"] + sides["gallery"] if r.person_id == 12009]
    assert len(found) == 6
    assert {r.view for r in found} == {"c1", "c2", "c3", "c5", "c6"}


# --- a division of one's own ---


def test_an_own_split_file_decides_who_is_tested(data_dir):
    name = "market1501_pedes/own_split"
    images = IMAGES["test", 12009]
    assert set(read_back(data_dir, "query", name)) == set(images[:1])
    assert set(read_back(data_dir, "gallery", name)) == set(images[2:])
    # Those of the list are left out of training all the same.
    assert people(read_back(data_dir, "train", name)) == people(read_back(data_dir, "train"))


def test_an_own_split_needs_no_list(manual):
    (manual / dummy_data.LIST).unlink()
    found = contents(manual, "own_split")
    assert not found.faults
    assert {r.person_id for r in found.splits["query"]} == {12009}
    trained = {r.person_id for r in found.splits["train"] + found.splits["val"]}
    assert 12009 not in trained
    assert TESTED - {12009} <= trained


def test_an_own_split_of_other_images_is_refused(manual):
    (manual / dummy_data.SPLIT_FILE).write_text(
        json.dumps({"query": ["Market/-1_c1s1_000001_00.jpg"], "gallery": ["cam_a/010_45.bmp"]})
    )
    (fault,) = contents(manual, "own_split").faults
    assert "names 2 images that are not of the test set; accepted: images in Market/ whose" in fault
