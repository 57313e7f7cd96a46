"""The division of a test set into query and gallery, by rule and by a user's file."""

import collections
import hashlib
import json

import pytest

from tfds_builders import protocols
from tfds_builders.manual import Record
from tfds_builders.protocols import SplitFile, divide, divide_by_file, read_split_file


def record(person, view, index=0):
    return Record(f"{person}/{view or 'unknown'}_{index}.jpg", person, ("A man.",), -1, view)


def people(count, views):
    return [record(p, f"c{v}", i) for p in range(count) for v in range(views) for i in (0, 1)]


def paths(records):
    return [r.file_path for r in records]


# --- orders ---


def test_the_order_is_that_of_the_digests():
    def digest(name):
        return hashlib.sha256(f"3/what/{name}".encode()).digest()

    names = [f"c{n}" for n in range(20)]
    order = protocols.seeded_order(names, 3, "what")
    assert order == sorted(names, key=digest)
    assert order == protocols.seeded_order(names[::-1], 3, "what")
    assert order != protocols.seeded_order(names, 4, "what")
    assert order != protocols.seeded_order(names, 3, "else")


def test_the_order_never_changes():
    # Worked out by sha256sum; a change here would change everyone's query and gallery.
    assert protocols.seeded_order(["a", "b", "c", "d"], 0, "x") == ["b", "d", "a", "c"]


@pytest.mark.parametrize(
    ("ids", "wanted", "size"),
    [(12_253, 1_000, 1_000), (5_532, 200, 200), (40, 200, 4), (19, 200, 1), (2, 9, 1), (1, 9, 0)],
)
def test_a_small_set_validates_on_a_tenth(ids, wanted, size):
    assert protocols.validation_size(ids, wanted) == size
    assert len(protocols.choose_validation(range(ids), wanted, seed=0)) == size


def test_validation_depends_on_the_seed_alone():
    chosen = protocols.choose_validation(range(1_000), 100, seed=0)
    assert chosen == protocols.choose_validation(range(999, -1, -1), 100, seed=0)
    assert chosen <= set(range(1_000))
    assert len(chosen & protocols.choose_validation(range(1_000), 100, seed=1)) < 40


# --- the rule ---


@pytest.mark.parametrize(
    ("views", "query"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 3), (10, 4)]
)
def test_two_fifths_of_the_views_are_queries(views, query):
    keys = [f"c{n}" for n in range(views)]
    chosen = protocols.query_views(7, keys, seed=0)
    assert len(chosen) == query
    assert chosen <= set(keys)


def test_one_view_cannot_be_divided():
    with pytest.raises(ValueError, match=r"views of id 7 = \['c1'\]; accepted: two views or more"):
        protocols.query_views(7, ["c1"], seed=0)


def test_a_division_worked_out_by_hand():
    # The smaller digest of "SEED/view of ID/VIEW" is the query.
    def first(seed, person, views):
        return min(
            views, key=lambda v: hashlib.sha256(f"{seed}/view of {person}/{v}".encode()).digest()
        )

    records = [record(1, "c1", 0), record(1, "c1", 1), record(1, "c2"), record(2, "1-2")]
    records += [record(2, "3-4", 0), record(2, "3-4", 1), record(3, "s5"), record(4, "")]
    one, two = first(0, 1, ["c1", "c2"]), first(0, 2, ["1-2", "3-4"])
    division = divide(records, seed=0)
    assert [r.file_path for r in records if (r.person_id, r.view) in {(1, one), (2, two)}] == paths(
        division.query
    )
    assert len(division.query) + len(division.gallery) == 6
    assert [(item.names, item.images) for item in division.left_out] == [
        ((3,), 1),
        (("4/unknown_0.jpg",), 1),
    ]
    assert division.left_out[0].lines() == [
        "1 test ids seen in one view only (1 images), left out: 3"
    ]
    assert division.left_out[1].lines() == [
        "1 test images whose name does not tell the view, left out: 4/unknown_0.jpg"
    ]


@pytest.mark.parametrize("seed", range(10))
def test_everyone_is_on_both_sides_and_no_view_is(seed):
    division = divide(people(40, 2) + people(80, 5)[400:], seed=seed)
    sides = [division.query, division.gallery]
    ids = [{r.person_id for r in side} for side in sides]
    views = [{(r.person_id, r.view) for r in side} for side in sides]
    assert ids[0] == ids[1] == set(range(80))
    assert not views[0] & views[1]
    per_person = collections.Counter(person for person, _ in views[0])
    assert [per_person[person] for person in (0, 39, 40, 79)] == [1, 1, 2, 2]


def test_a_seed_decides_and_the_order_of_the_records_does_not():
    records = people(50, 4)
    division = divide(records, seed=0)
    again = divide(records[::-1], seed=0)
    assert set(division.query) == set(again.query)
    assert set(division.gallery) == set(again.gallery)
    assert paths(division.query) == [p for p in paths(records) if p in set(paths(division.query))]
    others = [frozenset(divide(records, seed=seed).query) for seed in range(10)]
    assert len(set(others)) == 10


def test_a_further_person_changes_nothing_for_the_others():
    division, more = divide(people(10, 4), seed=0), divide(people(11, 4), seed=0)
    assert set(division.query) <= set(more.query)
    assert set(division.gallery) <= set(more.gallery)


def test_left_out_as_metadata():
    item = protocols.LeftOut("ids seen in one view only", tuple(range(7)), 9)
    assert item.as_metadata() == {"count": 7, "images": 9, "first": [0, 1, 2, 3, 4]}
    assert json.dumps(item.as_metadata())
    assert protocols.LeftOut("nothing", (), 0).lines() == []


# --- a user's own file ---


def written(folder, content):
    path = folder / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_own_file(tmp_path):
    path = written(tmp_path, {"query": ["1/c1_0.jpg"], "gallery": ["1/c2_0.jpg"], "from": "here"})
    split = read_split_file(path)
    assert split == SplitFile(path, ("1/c1_0.jpg",), ("1/c2_0.jpg",))
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_split_file(path) == split


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"query": [', r"split.json is not valid JSON: .* Accepted: \{\"query\": "),
        ("[" * 100_000, "split.json is not valid JSON: maximum recursion depth"),
        (["a.jpg"], "split.json holds a list. Accepted"),
        ({"query": ["a.jpg"]}, "split.json has no \"gallery\"; it has 'query'. Accepted"),
        ({"gallery": ["a.jpg"]}, "split.json has no \"query\"; it has 'gallery'. Accepted"),
        ({}, 'has no "query"; it has nothing'),
        ({"query": [], "gallery": ["a"]}, 'split.json: "query" is no list, or an empty one'),
        ({"query": ["a"], "gallery": "a"}, 'split.json: "gallery" is no list, or an empty one'),
        ({"query": ["a", 3], "gallery": ["b"]}, '"query" has 1 entries that are no text: 3. Acc'),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_split_file(written(tmp_path, content))
    assert "paths relative to imgs/. Correct the file." in str(error.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "split.json"
    path.write_bytes(b'{"query": ["caf\xe9"]}')
    with pytest.raises(ValueError, match="is not valid JSON: 'utf-8' codec"):
        read_split_file(path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)\. Accepted: "):
        read_split_file(tmp_path)


TEST = [record(1, "c1"), record(1, "c2"), record(1, "c2", 1), record(2, "c1"), record(2, "c3")]
KNOWN = {*paths(TEST), "9/c1_0.jpg"}


def by_file(tmp_path, query, gallery):
    split = SplitFile(tmp_path / "own.json", tuple(query), tuple(gallery))
    return divide_by_file(split, TEST, KNOWN, "images of people 1 and 2")


def test_the_file_decides(tmp_path):
    division = by_file(tmp_path, ["1/c2_0.jpg"], ["2/c1_0.jpg", "1/c1_0.jpg"])
    assert paths(division.query) == ["1/c2_0.jpg"]
    assert paths(division.gallery) == ["1/c1_0.jpg", "2/c1_0.jpg"]
    assert not division.faults
    assert division.left_out[0].lines() == [
        "2 test images that own.json does not name, left out: 1/c2_1.jpg, 2/c3_0.jpg"
    ]
    assert division.notes == ("1 gallery ids without a query image, kept as distractors: 2",)


def test_what_a_file_may_have_is_counted(tmp_path):
    division = by_file(
        tmp_path, ["1/c2_0.jpg", "1/c2_0.jpg"], ["1/c2_1.jpg", "1/c1_0.jpg", "1/c1_0.jpg"]
    )
    assert not division.faults
    assert paths(division.query) == ["1/c2_0.jpg"]
    assert paths(division.gallery) == ["1/c1_0.jpg", "1/c2_1.jpg"]
    assert division.notes == (
        "1 query images that own.json names again, kept once: 1/c2_0.jpg",
        "1 gallery images that own.json names again, kept once: 1/c1_0.jpg",
        "1 ids with a view in both query and gallery, as the file says: 1",
    )


@pytest.mark.parametrize(
    ("query", "gallery", "fault"),
    [
        (
            ["1/c1_0.jpg", "1/none.jpg"],
            ["1/c2_0.jpg", "imgs/1/c2_1.jpg"],
            "names 2 images that the annotations do not have; accepted: paths relative to imgs/, "
            "letter by letter: 1/none.jpg, imgs/1/c2_1.jpg.",
        ),
        (
            ["1/c1_0.jpg"],
            ["1/c2_0.jpg", "9/c1_0.jpg"],
            "names 1 images that are not of the test set; accepted: images of people 1 and 2: "
            "9/c1_0.jpg.",
        ),
        (
            ["1/c1_0.jpg", "1/c2_0.jpg"],
            ["1/c2_0.jpg"],
            "names 1 images in both query and gallery; accepted: one side for each image: "
            "1/c2_0.jpg.",
        ),
        (
            ["1/c1_0.jpg", "2/c1_0.jpg"],
            ["1/c2_0.jpg"],
            "names 1 query ids without a gallery image, which no search could find; accepted: ids "
            "with both: 2.",
        ),
    ],
)
def test_what_a_file_may_not_have_is_a_fault(tmp_path, query, gallery, fault):
    (found,) = by_file(tmp_path, query, gallery).faults
    assert found == f"{tmp_path / 'own.json'} {fault} What to do: correct these entries."


def test_all_faults_at_once(tmp_path):
    assert (
        len(by_file(tmp_path, ["none.jpg", "9/c1_0.jpg", "1/c1_0.jpg"], ["1/c1_0.jpg"]).faults) == 3
    )
