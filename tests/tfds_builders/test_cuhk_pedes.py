"""The CUHK-PEDES builder on a small made-up folder in the official layout."""

import pytest
import tensorflow_datasets as tfds

from tfds_builders.build import build, main
from tfds_builders.cuhk_pedes import dummy_data as dummy
from tfds_builders.cuhk_pedes.annotations import (
    PUBLISHED,
    PUBLISHED_IDS,
    read_domain,
    read_official,
)
from tfds_builders.domains import DOMAINS, camera_id, source_domain

RAW = {"image": tfds.decode.SkipDecoding()}
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def data_dir(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    build("cuhk_pedes", str(path), str(source.parent))
    return path


def notes(folder):
    return "\n".join(read_official(folder).notes)


# --- what is read back ---


def read(data_dir, split, name="cuhk_pedes"):
    source = tfds.data_source(name, split=split, data_dir=data_dir, decoders=RAW)
    return {example["image_id"].decode(): example for example in source}


@pytest.mark.parametrize("split", SPLITS)
def test_round_trip(source, data_dir, split):
    expected = [record for record in dummy.records() if record["split"] == split]
    found = read(data_dir, split)
    assert sorted(found) == sorted(record["file_path"] for record in expected)
    for record in expected:
        example = found[record["file_path"]]
        path = source / "imgs" / dummy.on_disk(record["file_path"])
        assert example["image"] == path.read_bytes()
        assert example["person_id"] == record["id"]
        assert example["camera_id"] == camera_id(record["file_path"])
        assert [text.decode() for text in example["captions"]] == record["captions"]


def test_every_oddity_is_in_the_made_up_folder(source):
    assert {path.rpartition(".")[2] for _, _, path, _ in dummy.IMAGES} == {
        "bmp",
        "png",
        "jpg",
        "JPG",
    }
    assert {number for *_, number in dummy.IMAGES} == {1, 2, 4, 10}
    records = dummy.records()
    texts = [text for record in records for text in record["captions"]]
    assert any("\n" in text for text in texts)
    assert any("  " in text or text != text.strip() for text in texts)
    depths = {type(record["processed_tokens"][0][0]) for record in records}
    assert depths == {str, list}
    assert {source_domain(record["file_path"]) for record in records} == set(DOMAINS)
    assert list(source.rglob("*.jpg.jpg"))
    assert list(source.rglob("-1_*"))
    assert list(source.rglob("0000_*"))


def test_images_decode(data_dir):
    for example in tfds.data_source("cuhk_pedes", split="test", data_dir=data_dir):
        assert example["image"].shape == (48, 16, 3)


def test_the_report_is_kept_with_the_data(data_dir):
    metadata = tfds.builder("cuhk_pedes", data_dir=data_dir).info.metadata
    assert "val: 3 images, published 3,078 (-3,075)" in metadata["differences"]
    assert "1 test ids with one image: 12303" in metadata["notes"]
    assert (
        "2 images found under another suffix than annotated, and used: "
        "Market/0003_c2s1_000701_00.jpg (0003_c2s1_000701_00.jpg.jpg), CUHK03/1369_2.png "
        "(1369_2.PNG)"
    ) in metadata["notes"]


def test_metadata_files_are_found():
    info = tfds.builder("cuhk_pedes").info
    assert "CUHK-PEDES" in info.description
    assert "Person Search with Natural Language" in info.citation


# --- oddities that are accepted, and counted ---


def test_manual_dir_may_be_the_folder_itself(source, tmp_path):
    builder = build("cuhk_pedes", str(tmp_path), str(source))
    assert builder.info.splits["train"].num_examples == 12


def test_a_split_that_is_not_there_is_reported(folder, tmp_path):
    dummy.write_json(folder, [r for r in dummy.records() if r["split"] != "val"])
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert sorted(builder.info.splits) == ["test", "train"]
    differences = builder.info.metadata["differences"]
    assert "val: 0 images, published 3,078 (-3,078)" in differences
    assert not any(line.startswith("val, folder") for line in differences)


def test_numbers_of_captions_and_single_images_are_noted(folder):
    text = notes(folder)
    assert (
        "2 train images whose number of captions is not 2: CUHK01/0002004.png (1), "
        "Market/0003_c6s3_066223_00.jpg (4)" in text
    )
    assert "test_query/p2703_s3526.jpg (10)" in text
    assert "1 test ids with one image: 12303" in text
    assert "6 train captions over several lines, kept as given: cam_a/001_45.bmp" in text


def test_boxes_without_an_identity_are_noted(folder):
    text = notes(folder)
    assert (
        "1 Market images that Market-1501 numbers -1 (junk), kept: Market/-1_c2s1_000501_00.jpg"
    ) in text
    assert (
        "1 Market images that Market-1501 numbers 0000 (distractors), kept: "
        "Market/0000_c3s2_000601_00.jpg"
    ) in text


def test_empty_captions_are_kept_and_noted(folder, tmp_path):
    dummy.change(folder, 0, captions=["", " \n", "A man."])
    assert "2 train captions empty, kept as given: cam_a/001_45.bmp" in notes(folder)
    build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    captions = read(tmp_path / "data", "train")["cam_a/001_45.bmp"]["captions"]
    assert list(captions) == [b"", b" \n", b"A man."]


def test_an_image_without_captions_is_kept_and_noted(folder, tmp_path):
    dummy.change(folder, 0, captions=[])
    assert "cam_a/001_45.bmp (0)" in notes(folder)
    build("cuhk_pedes", str(tmp_path / "data"), str(folder))
    assert len(read(tmp_path / "data", "train")["cam_a/001_45.bmp"]["captions"]) == 0


def test_a_camera_that_a_name_does_not_tell_is_noted(folder):
    dummy.change(folder, 4, file_path="Market/odd.jpg")
    dummy.change(folder, 5, file_path="elsewhere/0003_c6s3_066223_00.jpg")
    assert (
        "2 file names that do not tell the camera, stored as -1: Market/odd.jpg, elsewhere/"
        in notes(folder)
    )


# --- counts against the published ones ---


def differences(folder):
    return read_official(folder).differences


def test_differences_name_what_how_many_and_the_first_five(folder):
    lines = differences(folder)
    assert "train: 12 images, published 34,054 (-34,042)" in lines
    assert "test: 19 captions, published 6,156 (-6,137)" in lines
    assert "val: 2 ids, published 1,000 (-998)" in lines
    assert (
        "998 published val ids without an image: 11006, 11007, 11008, 11009, 11010 and 993 more"
        in lines
    )
    assert "val, folder CUHK03: 2 images, published 375 (-373)" in lines
    assert "train, folder CUHK01: 1 ids, published 808 (-807)" in lines


def test_ids_outside_the_published_range(folder):
    dummy.change(folder, 0, id=20_000)
    assert "1 train ids that are not published ones: 20000" in differences(folder)


def test_published_numbers_add_up(source):
    assert sum(split.images for split in PUBLISHED.values()) == 40_206
    assert sum(split.captions for split in PUBLISHED.values()) == 80_440
    assert sum(split.ids for split in PUBLISHED.values()) == 13_003
    assert {name: len(ids) for name, ids in PUBLISHED_IDS.items()} == {
        name: split.ids for name, split in PUBLISHED.items()
    }
    counts = {part.name: part.published for part in read_official(source).counts}
    for split in SPLITS:
        folders = [size for name, size in counts.items() if name.startswith(f"{split}, folder")]
        assert len(folders) == 6
        assert sum(size.ids for size in folders) == PUBLISHED[split].ids
        if split != "train":
            assert sum(size.images for size in folders) == PUBLISHED[split].images


def test_the_parts_of_a_split_are_counted(source):
    counts = {part.name: part.found for part in read_official(source).counts}
    for split in SPLITS:
        folders = [size for name, size in counts.items() if name.startswith(f"{split}, folder")]
        for what in ("images", "captions"):
            total = sum(getattr(size, what) for size in folders)
            assert total == getattr(counts[split], what) > 0


# --- one source dataset ---


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_config_holds_one_source_with_the_official_splits(domain, source, data_dir):
    builder = build(f"cuhk_pedes/{domain}", str(data_dir), str(source))
    expected = {
        (record["split"], record["file_path"])
        for record in dummy.records()
        if source_domain(record["file_path"]) == domain
    }
    found = {
        (split, image_id)
        for split in builder.info.splits
        for image_id in read(data_dir, split, f"cuhk_pedes/{domain}")
    }
    assert found == expected


def test_sources_divide_the_official_splits(source):
    parts = [name for domain in DOMAINS for name in read_domain(source, domain).names()]
    assert sorted(parts) == sorted(read_official(source).names())


def test_published_sizes_of_sources(source):
    published = {
        domain: {c.name: c.published for c in read_domain(source, domain).counts}
        for domain in DOMAINS
    }
    assert (published["viper"]["test"].images, published["viper"]["test"].ids) == (98, 49)
    assert (published["sysu"]["val"].images, published["sysu"]["val"].ids) == (1_766, 641)
    assert published["sysu"]["test, folder test_query"].ids == 230
    ids = [published[domain][split].ids for domain in DOMAINS for split in SPLITS]
    assert sum(ids) == 13_003


def test_notes_and_differences_of_a_source_are_its_own(source):
    found = read_domain(source, "viper")
    assert "test: 1 images, published 98 (-97)" in found.differences
    assert not any("Market" in line for line in (*found.notes, *found.differences))
    assert any("junk" in line for line in read_domain(source, "market").notes)


def test_a_source_without_images_is_one_fault(folder, tmp_path, capsys):
    dummy.write_json(folder, [r for r in dummy.records() if "cam_" not in r["file_path"]])
    assert len(read_domain(folder, "viper").faults) == 1
    assert main(["cuhk_pedes/viper", f"--data_dir={tmp_path}/d", f"--manual_dir={folder}"]) == 1
    error = capsys.readouterr().err
    assert "reid_raw.json has no image of the source viper; accepted: records whose file_path " in (
        error
    )
    assert "starts with cam_a/, cam_b/. What to do: build cuhk_pedes/official" in error


# --- the larger made-up folder ---


def test_a_larger_folder_has_the_proportions_of_the_real_one(tmp_path):
    folder = dummy.make(tmp_path, 780)
    found = read_official(folder)
    assert found.faults == ()
    assert len(found.names()) == len([p for p in folder.rglob("imgs/*/*") if p.is_file()]) == 780
    sizes = {c.name: c.found for c in found.counts}
    assert (sizes["train"].ids, sizes["val"].ids, sizes["test"].ids) == (220, 20, 20)
    assert {source_domain(name) for name in found.names()} == set(DOMAINS)
    assert not any("do not tell the camera" in line for line in found.notes)
    builder = build("cuhk_pedes", str(tmp_path / "data"), str(tmp_path))
    assert sum(split.num_examples for split in builder.info.splits.values()) == 780


@pytest.mark.parametrize("number", [0, 1, 6])
def test_a_larger_folder_needs_some_images(number, tmp_path):
    with pytest.raises(ValueError, match=f"num_images = {number}; accepted: None, or at least"):
        dummy.make(tmp_path, number)
    assert not list(tmp_path.iterdir())
