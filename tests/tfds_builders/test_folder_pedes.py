"""One's own images: tables in every form, and each message that a wrong one gets."""

import csv
import json
import pathlib
import re

import pytest
import tensorflow_datasets as tfds

import tfds_builders
from tfds_builders import dummy
from tfds_builders.build import build
from tfds_builders.folder_pedes import dummy_data, folder_pedes_dataset_builder, table

README = pathlib.Path(tfds_builders.__file__).parent / "folder_pedes/README.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The made-up folder with a CSV file; only to be read."""
    return dummy_data.make(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def built(made, tmp_path_factory):
    """The data_dir in which it was built."""
    data_dir = tmp_path_factory.mktemp("data")
    build("folder_pedes", str(data_dir), str(made))
    return data_dir


@pytest.fixture
def read(tmp_path):
    """Reads a folder that holds nothing but a table with this text."""

    def call(text, name="captions.csv", seed=0, **encoding):
        (tmp_path / name).write_text(text, newline="", **encoding)
        builder = folder_pedes_dataset_builder.Builder(
            config=f"seed{seed}", data_dir=str(tmp_path / "data")
        )
        return builder.read(tmp_path)

    return call


def lines(*rows, head="file,person_id,camera_id,split,caption"):
    return "\n".join([head, *rows]) + "\n"


def records(contents):
    return {r.file_path: r for part in contents.splits.values() for r in part}


def people(contents):
    return {name: sorted({r.person_id for r in part}) for name, part in contents.splits.items()}


THREE = ("a.jpg,1,1,,one", "b.jpg,2,1,,two", "c.jpg,3,1,,three")


def test_what_is_built(made, built):
    examples = {}
    for split in ("train", "val", "test"):
        source = tfds.data_source(
            "folder_pedes",
            split=split,
            data_dir=built,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        examples |= {e["image_id"].decode(): e for e in source}
    assert len(examples) == 30
    for index, row in enumerate(dummy_data.rows()):
        path = row["file"].replace("\\", "/")
        example = examples[path]
        assert example["image"] == (made / "images" / path).read_bytes()
        assert example["person_id"] == index // 3
        assert example["camera_id"] == (-1 if row["camera_id"] == "" else row["camera_id"])
        assert [text.decode() for text in example["captions"]] == row["captions"]


def test_what_is_kept_about_it(built):
    metadata = tfds.builder("folder_pedes", data_dir=built).info.metadata
    assert metadata["person_names"][:2] == ["anna", "björn"]
    assert metadata["camera_names"] == []
    assert metadata["seed"] == 0
    notes = "\n".join(metadata["notes"])
    assert 'rows whose file has "\\", read as "/": line 6' in notes
    assert "10 values of person_id, numbered from 0 in sorted order: anna, björn" in notes
    assert "images without a caption: björn/1.jpg" in notes
    assert "1 images that no row names, left out: unnamed.jpg" in notes
    assert "made by identity with seed 0" in notes


def test_another_folder_is_not_taken_for_the_first(made, built, tmp_path):
    again = build("folder_pedes", str(built), str(made))
    assert again.info.splits.total_num_examples == 30
    other = dummy_data.make(tmp_path / "other", splits=True)
    with pytest.raises(ValueError, match="was built from other files than those in .*other"):
        build("folder_pedes", str(built), str(other))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_and_json_lines_say_the_same(tmp_path, delimiter):
    content = dummy_data.rows(splits=True)
    (tmp_path / "csv").mkdir()
    (tmp_path / "json").mkdir()
    dummy_data.write_csv(tmp_path / "csv/mine.CSV", content, delimiter)
    dummy_data.write_json_lines(tmp_path / "json/mine.jsonl", content)
    builder = folder_pedes_dataset_builder.Builder(data_dir=str(tmp_path / "data"))
    one, other = builder.read(tmp_path / "csv"), builder.read(tmp_path / "json")
    assert one.splits == other.splits
    assert not one.faults
    assert list(one.splits) == ["train", "val", "test", "query", "gallery"]
    assert records(one)["anna/1.png"].captions == tuple(dummy.captions(1, 2))
    assert "\n" in records(one)["anna/1.png"].captions[0]
    assert one.found.seed is None


def test_the_readme_is_right(read, tmp_path):
    text = README.read_text()
    snippets = dict(re.findall(r"```(csv|json)\n(.*?)```", text, re.S))
    contents = read(snippets["csv"])
    assert not contents.faults
    assert len(contents.splits["train"][0].captions) == 2
    (tmp_path / "captions.csv").unlink()
    assert not read(snippets["json"], "captions.jsonl").faults
    assert "python -m tfds_builders.folder_pedes.dummy_data" in text


def test_splits_by_identity_are_stable_and_seeded(read):
    many = [f"{i}.jpg,{i},,,word" for i in range(40)]
    first = people(read(lines(*many)))
    assert {name: len(ids) for name, ids in first.items()} == {"train": 32, "val": 4, "test": 4}
    assert people(read(lines(*reversed(many)))) == first
    assert people(read(lines(*many), seed=1)) != first
    assert people(read(lines(*THREE))) == {"train": [3], "val": [1], "test": [2]}


def test_whole_numbers_stay_and_names_are_numbered(read):
    contents = read(lines("a.jpg,12.0,3.0,,x", "b.jpg,-7,,,y", "c.jpg,5,2,,z"))
    assert [records(contents)[name].person_id for name in ("a.jpg", "b.jpg", "c.jpg")] == [
        12,
        -7,
        5,
    ]
    assert [records(contents)[name].camera_id for name in ("a.jpg", "b.jpg", "c.jpg")] == [3, -1, 2]
    contents = read(lines("a.jpg,12,door,,x", "b.jpg,zoe,,,y", "c.jpg,5,attic,,z"))
    assert contents.found.person_names == ("12", "5", "zoe")
    assert contents.found.camera_names == ("attic", "door")
    assert records(contents)["b.jpg"] == type(records(contents)["b.jpg"])("b.jpg", 2, ("y",), -1)
    assert records(contents)["a.jpg"].camera_id == 1


def test_odd_but_usable(read):
    contents = read(
        "file;person_id;caption;weather\r\n"
        "./x//a.JPG;1;one, and more;rain\r\n"
        'x\\a.JPG;1;"over\r\ntwo ""lines""";sun\r\n'
        ";;;\r\n"
        "\r\n"
        "x/a.JPG;1;one, and more;\r\n"
        "b.jpg;2;two;\r\n"
        "c.jpg;3;   ;\r\n"
        "c.jpg;3;three;\r\n",
        encoding="utf-8-sig",
    )
    assert not contents.faults
    assert records(contents)["x/a.JPG"].captions == ("one, and more", 'over\r\ntwo "lines"')
    assert records(contents)["c.jpg"].captions == ("three",)
    notes = "\n".join(contents.notes)
    assert "1 columns that are not read: weather" in notes
    assert "their image has already, kept once: line 7 (x/a.JPG)" in notes
    assert "rows without a caption, or with an empty one, left out: line 9" in notes


def test_captions_in_json_lines(read):
    rows = [
        {"file": "a.jpg", "person_id": 1, "captions": ["x", " ", "y"]},
        {"file": "b.jpg", "person_id": "2", "caption": "z\u2028still z", "camera_id": None},
        {"file": "c.jpg", "person_id": 3.0, "caption": []},
    ]
    contents = read("\n\n".join(map(json.dumps, rows)), "captions.jsonl")
    found = records(contents)
    assert found["a.jpg"].captions == ("x", "y")
    assert found["b.jpg"].captions == ("z\u2028still z",)
    assert found["c.jpg"].person_id == 3
    assert "2 rows without a caption, or with an empty one" in "\n".join(contents.notes)


@pytest.mark.parametrize("folder", ["", "images", "imgs"])
def test_where_the_images_may_lie(read, tmp_path, folder):
    for name in ("a.jpg", "b.jpg"):
        dummy.write_image(tmp_path / folder / name, 0)
    (tmp_path / "images").mkdir(exist_ok=True)
    dummy.write_image(tmp_path / "imgs/more.jpg", 0)
    contents = read(lines(*THREE))
    assert contents.image_root == tmp_path / folder
    assert contents.names() == ["c.jpg", "a.jpg", "b.jpg"]


def test_a_gallery_alone_needs_neither_captions_nor_several_people(read):
    contents = read(lines("a.jpg,1,,gallery,", "b.jpg,1,,Gallery,"))
    assert not contents.faults
    assert len(contents.splits["gallery"]) == 2


def test_query_ids_that_cannot_be_found_are_counted(read):
    contents = read(lines("a.jpg,1,,query,", "b.jpg,1,,gallery,", "c.jpg,2,,query,"))
    assert not contents.faults
    assert "1 query ids without an image in gallery, never to be found: 2" in contents.notes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.jpg,,,,x"], "line 2: person_id is missing or empty; the row has file, caption"),
        ([",1,,,x"], "line 2: file is missing or empty"),
        (["../a.jpg,1,,,x"], r"line 2: file = '../a.jpg'; accepted: a path relative to"),
        (["/data/a.jpg,1,,,x"], "line 2: file = '/data/a.jpg'; accepted: a path relative"),
        (["C:\\a.jpg,1,,,x"], r"line 2: file = 'C:\\\\a.jpg'; accepted: a path relative"),
        (
            ["a.jpg,1,,valid,x"],
            "line 2: split = 'valid'; accepted: train, val, test, query, gallery, or nothing",
        ),
        (["a.jpg,1,,,x, y"], "line 2: 6 cells, but the header has 5; accepted: as many"),
        (["a.jpg,1"], "line 2: 2 cells, but the header has 5"),
    ],
)
def test_wrong_rows(read, rows, message):
    contents = read(lines(*rows, *THREE))
    assert len(contents.faults) == 1
    assert re.search(message, contents.faults[0])
    assert re.search(r"1 of 4 rows of .*captions.csv are not as they should", contents.faults[0])
    assert "What to do: correct these lines" in contents.faults[0]
    assert len(records(contents)) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file": "a.jpg"', "line 4: .* is not valid JSON .*; accepted: one whole object"),
        (f'{{"file": {"9" * 5000}}}', "line 4: .* is not valid JSON .Exceeds the limit"),
        ("[1]", r"line 4: \[1\] is no object; accepted: one whole object on each line"),
        ('{"file": 3, "person_id": 1}', "line 4: file = 3; accepted: a path"),
        ('{"file": "a.jpg", "person_id": true}', "line 4: person_id = True; accepted: a whole"),
        ('{"file": "a.jpg", "person_id": 1.5}', "line 4: person_id = 1.5; accepted: a whole"),
        (
            '{"file": "a", "person_id": 1, "caption": 5}',
            "line 4: caption = 5; accepted: a text, or",
        ),
        (
            '{"file": "a", "person_id": 1, "captions": ["\\ud800"]}',
            "line 4: captions = .*; accepted: a text",
        ),
        ('{"file": "a", "person_id": 1, "caption": "x", "captions": []}', "both caption and capt"),
    ],
)
def test_wrong_json_lines(read, row, message):
    good = [{"file": f"{i}.jpg", "person_id": i, "caption": "x", "camera_id": i} for i in range(3)]
    contents = read("\n".join([*map(json.dumps, good), row]), "captions.jsonl")
    assert len(contents.faults) == 1
    assert re.search(message, contents.faults[0])


def test_wrong_rows_are_the_only_fault(read):
    (fault,) = read("file,person_id,split,caption\na.jpg,1,validation,A man.\n").faults
    assert "line 2: split = 'validation'; accepted: train, val, test" in fault


def test_many_wrong_rows_are_counted(read):
    contents = read(lines(*THREE, *[f"{i}.jpg,,,,x" for i in range(8)]))
    assert "8 of 11 rows" in contents.faults[0]
    assert contents.faults[0].count("person_id is missing") == 5
    assert "and 3 more" in contents.faults[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*THREE, "a.jpg,2,1,,four"],
            r"1 rows of .*captions.csv give their image another person_id than a row before:\n"
            r"  a.jpg: '1' in line 2, '2' in line 5\nAccepted: one person_id for each file",
        ),
        (
            [*THREE, "a.jpg,1,7,,four"],
            "another camera_id .*\n  a.jpg: '1' in line 2, '7' in line 5",
        ),
        (
            ["a.jpg,1,,train,x", "a.jpg,1,,test,y", "b.jpg,2,,test,z"],
            "another split than a row before:\n  a.jpg: 'train' in line 2, 'test' in line 3",
        ),
        (
            ["a.jpg,1,,train,x", "b.jpg,1,,test,y", "c.jpg,2,,query,y", "d.jpg,2,,gallery,y"],
            r"1 ids of .* stand in more than one split, [\s\S]*'1': train in line 2, test in line 3"
            r"[\s\S]*query and gallery count as one",
        ),
        (
            ["a.jpg,1,,train,x", "b.jpg,2,,,y"],
            r"1 of 2 images have no split, others have one: line 3 \(b.jpg\); accepted: train, val",
        ),
        (["a.jpg,1,,,x", "b.jpg,2,,,y"], "has 2 identities and no splits; accepted: 3 .* gallery"),
        (
            ["a.jpg,7,,,x", "b.jpg,007,,,y", "c.jpg,8,,,z", "d.jpg,9,,,z"],
            "1 values of person_id are written in several ways: 007 and 7; accepted: one way",
        ),
        (
            ["a.jpg,1,,train,x", "b.jpg,2,,test,"],
            "none of the 1 images of split test has a caption; accepted: at least one",
        ),
    ],
)
def test_what_does_not_fit_together(read, rows, message):
    faults = read(lines(*rows)).faults
    assert len(faults) == 1
    assert re.search(message, faults[0])
    assert "What to do" in faults[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no row; accepted: one row or more"),
        ("file,person_id,caption\n", "has no row"),
        (
            "path,person,text\na.jpg,1,x\n",
            r"line 1: no column 'file'; the columns are \['path', 'person', 'text'\]; accepted: a "
            "first line with the columns file, person_id, caption and",
        ),
        ("file,person_id,file\na,1,b\n", "column 'file' stands twice"),
        ('file,person_id,caption\na.jpg,1,"x\nb.jpg,2,y\n', "row that begins in line 2: .*doubled"),
        ('file,person_id,caption\na.jpg,1,"x" y\n', "row that begins in line 2: .*single"),
    ],
)
def test_a_table_that_cannot_be_read(read, text, message):
    with pytest.raises(ValueError, match=f"captions.csv.*{message}"):
        read(text)


def test_text_that_is_not_utf8(read):
    with pytest.raises(ValueError, match="captions.csv, line 2: byte 0xe9 is no UTF-8 text; acc"):
        read("file,person_id,caption\na.jpg,1,café\n", encoding="latin-1")
    with pytest.raises(ValueError, match="is UTF-16 text; accepted: UTF-8. Save it again"):
        read("file,person_id,caption\na.jpg,1,x\n", encoding="utf-16")


def test_a_json_list_is_no_json_lines(read):
    with pytest.raises(ValueError, match=r"begins with '\['; accepted: JSON lines, one object"):
        read('[{"file": "a.jpg", "person_id": 1}]', "captions.jsonl")


def test_which_table_is_taken(tmp_path):
    with pytest.raises(ValueError, match=r"is no folder[\s\S]*expected:"):
        table.find_table(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"no table .*[\s\S]*expected:[\s\S]*found in .*: photos/"):
        table.find_table(tmp_path)
    for name in ("mine.csv", ".~lock.mine.csv"):
        (tmp_path / name).touch()
    assert table.find_table(tmp_path).name == "mine.csv"
    (tmp_path / "yours.jsonl").touch()
    with pytest.raises(ValueError, match="holds 2 tables: mine.csv, yours.jsonl; accepted: one"):
        table.find_table(tmp_path)
    (tmp_path / "captions.jsonl").touch()
    assert table.find_table(tmp_path).name == "captions.jsonl"
    (tmp_path / "captions.csv").touch()
    with pytest.raises(ValueError, match="holds 2 tables: captions.csv, captions.jsonl"):
        table.find_table(tmp_path)


def test_the_made_up_folder_of_a_kind_that_there_is_not(tmp_path):
    with pytest.raises(ValueError, match="suffix = '.xls'; accepted: .csv, .jsonl"):
        dummy_data.make(tmp_path, suffix=".xls")


def test_a_csv_written_by_python_is_read(read, tmp_path):
    with open(tmp_path / "captions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "person_id", "caption"])
        writer.writerows([[f"{i}.jpg", i, f'says "{i}", twice\r\nor more'] for i in range(3)])
    builder = folder_pedes_dataset_builder.Builder(data_dir=str(tmp_path / "data"))
    found = records(builder.read(tmp_path))
    assert found["1.jpg"].captions == ('says "1", twice\r\nor more',)
