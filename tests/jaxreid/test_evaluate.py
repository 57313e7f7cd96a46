"""Evaluation of a split, by hand, and of a run's folder."""

import csv
import dataclasses
import json
import types

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxreid import evaluate, runs, sharding, tables, text
from jaxreid.data import source

# Four images of three people, the last without a caption; five captions, the last of person 9,
# whose only image is the second.
PIDS = np.array([7, 9, 7, 8])
CAPTIONS = ("red man", "blue man", "green man", "man", "a very red, red hat")
CAPTION_IMAGE = np.array([0, 0, 2, 2, 1], np.int32)
IMAGE_EMBEDDINGS = np.eye(4, dtype=np.float32)
# Similarity of each caption (row) with each image (column).
CAPTION_EMBEDDINGS = np.array(
    [
        [0.9, 0.8, 0.1, 0.0],  # both matches at ranks 1 and 3
        [0.1, 0.9, 0.2, 0.3],  # 3 and 4, for image 3 is nearer too
        [0.5, 0.5, 0.5, 0.5],  # all equal: the two wrong ones count first, 3 and 4
        [0.8, 0.1, 0.9, 0.0],  # 1 and 2
        [0.1, 0.2, 0.3, 0.0],  # 2
    ],
    np.float32,
)


@dataclasses.dataclass
class Encoder:
    """Embeds by table."""

    scores: np.ndarray | None = None
    mesh = sharding.make_mesh()

    def images(self, variables, images):
        return IMAGE_EMBEDDINGS[: len(images)]

    def captions(self, variables, tokens, lengths):
        return CAPTION_EMBEDDINGS[: len(tokens)]

    def word_scores(self, variables, tokens, lengths):
        return self.scores


def captioned(*, captions=CAPTIONS, truth=None, vocabulary=None, max_tokens=4):
    split = source.Split(
        name="made-up:test",
        images=np.zeros((4, 6, 2, 3), np.uint8),
        image_ids=tuple(f"cam/{i}.jpg" for i in range(4)),
        pids=PIDS,
        camids=np.full(4, -1),
        captions=captions,
        caption_image=CAPTION_IMAGE[: len(captions)],
        truth=truth,
    )
    vocabulary = vocabulary or text.Vocabulary(("man", "red", "hat"))
    return runs.Captioned(split, *vocabulary.encode(captions, max_tokens))


def test_both_directions_by_hand():
    found = evaluate.evaluate_split(Encoder(), {}, captioned())
    t2i = found["t2i"].summary()
    assert found["t2i"].first_rank.tolist() == [1, 3, 3, 1, 2]
    assert t2i["rank1"] == pytest.approx(40)
    assert t2i["rank5"] == t2i["rank10"] == pytest.approx(100)
    precision = [(1 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2, (1 / 3 + 2 / 4) / 2, 1, 1 / 2]
    assert t2i["map"] == pytest.approx(100 * np.mean(precision))
    assert t2i["minp"] == pytest.approx(100 * np.mean([2 / 3, 2 / 4, 2 / 4, 1, 1 / 2]))
    assert (t2i["num_queries"], t2i["num_gallery"], t2i["num_unmatched"]) == (5, 4, 0)
    # Columns of the table above; image 3 has no caption at all.
    assert found["i2t"].first_rank.tolist() == [1, 4, 1, 0]
    i2t = found["i2t"].summary()
    assert (i2t["num_queries"], i2t["num_gallery"], i2t["num_unmatched"]) == (4, 5, 1)
    assert i2t["rank1"] == pytest.approx(50)


def test_a_split_without_captions():
    with pytest.raises(ValueError, match="made-up:test has no caption"):
        evaluate.evaluate_split(Encoder(), {}, captioned(captions=()))


def test_a_row_for_each_query(tmp_path):
    data = captioned()
    found = evaluate.evaluate_split(Encoder(), {}, data)
    evaluate.write_per_query(tmp_path / "rows.csv", found, data)
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["direction"] for row in rows] == ["t2i"] * 5 + ["i2t"] * 4
    assert rows[4]["caption"] == "a very red, red hat"
    assert rows[4]["image_id"] == "cam/1.jpg"
    assert rows[4]["person_id"] == "9"
    assert [row["first_rank"] for row in rows] == ["1", "3", "3", "1", "2", "1", "4", "1", "0"]
    assert rows[8]["num_matches"] == "0"
    assert float(rows[4]["average_precision"]) == 0.5


def test_a_file_that_cannot_be_written(tmp_path):
    data = captioned()
    found = evaluate.evaluate_split(Encoder(), {}, data)
    with pytest.raises(ValueError, match="--per_query .*/no/rows.csv' cannot be written"):
        evaluate.write_per_query(tmp_path / "no" / "rows.csv", found, data)


def truth(word_regions):
    """Truth of the last caption's words; of the others nothing."""
    regions = np.full((5, 8), -1, np.int8)
    regions[4, : len(word_regions)] = word_regions
    return source.Truth(
        attributes=np.array([[0], [1], [0], [2]], np.int32),
        shown=np.ones((4, 1), np.uint8),
        region_boxes=np.tile(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32), (4, 1, 1)),
        mentions=np.ones((5, 1), np.uint8),
        caption_regions=regions,
        regions=("hat", "shoes"),
        word_regions=("hat", "shoes"),
    )


@pytest.mark.parametrize(
    ("unknown", "max_tokens", "wanted"),
    [
        # a very red red hat: regions -1 -1 0 1 0
        ("unk", 8, [-1, -1, 0, 1, 0, -1, -1, -1]),
        ("unk", 4, [-1, -1, 0, 1]),
        ("drop", 8, [0, 1, 0, -1, -1, -1, -1, -1]),  # "a" and "very" are not known
        ("drop", 2, [0, 1]),
    ],
)
def test_regions_stand_at_the_tokens_that_the_network_saw(unknown, max_tokens, wanted):
    vocabulary = text.Vocabulary(("red", "hat", "man"), unknown)
    data = captioned(truth=truth([-1, -1, 0, 1, 0]), vocabulary=vocabulary, max_tokens=max_tokens)
    found = evaluate.token_regions(vocabulary, data)
    assert found[4].tolist() == wanted
    assert np.all(found[:4] == -1)
    # As many places as there are tokens, and a region only where there is one.
    assert np.all(found[np.arange(max_tokens)[None] >= data.lengths[:, None]] == -1)


def test_a_caption_longer_than_its_truth():
    data = captioned(truth=truth([0] * 8), captions=(*CAPTIONS[:4], "hat " * 11), max_tokens=12)
    found = evaluate.token_regions(text.Vocabulary(("hat",)), data)
    assert found[4].tolist() == [0] * 8 + [-1] * 4


def test_photographs_have_no_true_regions():
    with pytest.raises(ValueError, match="made-up:test does not know the regions"):
        evaluate.token_regions(text.Vocabulary(("hat",)), captioned())


# --- a run's folder ---


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A run whose encoder is the table above; yields a function that sets its data."""
    vocabulary = text.Vocabulary(("man", "red", "hat"))

    def prepare(**fields):
        data = captioned(vocabulary=vocabulary, **fields)
        scores = np.zeros((5, 4, 2), np.float32)
        scores[4, 2:, 0] = 1  # the words "red red" go to the upper strip
        config = ConfigDict(
            {
                "data": {
                    "name": "made-up",
                    "test_name": "",
                    "test_split": "test",
                    "data_dir": "",
                    "manual_dir": "",
                    "register": "",
                },
                "eval": {"draws": 2, "seed": 0},
            }
        )
        fake = types.SimpleNamespace(
            config=config,
            vocabulary=vocabulary,
            encoder=Encoder(scores),
            variables={},
            step=40,
            workdir=tmp_path,
        )
        builder = types.SimpleNamespace(info=types.SimpleNamespace(splits={"test": 0, "val": 0}))
        monkeypatch.setattr(evaluate.source, "finished", lambda name, splits, **more: builder)
        monkeypatch.setattr(evaluate.retrieval, "load_run", lambda workdir, **more: fake)
        monkeypatch.setattr(evaluate.runs, "load_captioned", lambda *args, **more: data)
        return tmp_path

    return prepare


SCORES = {"rank1", "rank5", "rank10", "map", "minp", "map_trapezoid", "num_unmatched"}


def test_the_result_of_photographs(run):
    workdir = run()
    result = evaluate.evaluate_run(workdir, per_query=workdir / "rows.csv")
    assert json.loads((workdir / "eval" / "test.json").read_text()) == result
    assert set(result["t2i"]) == set(result["i2t"]) == SCORES
    assert {key: value for key, value in result.items() if key not in ("t2i", "i2t")} == {
        "num_queries": 5,
        "num_gallery": 4,
        "dataset": "made-up",
        "split": "test",
        "checkpoint": "best",
        "step": 40,
    }
    assert (workdir / "rows.csv").is_file()
    shown = tables.of_result(result)
    assert "made-up:test, best checkpoint (step 40): 5 captions, 4 images" in shown
    assert "40.00" in shown
    assert "queries without a match, scored 0: 0 text to image, 1 image to text" in shown
    assert "ceiling" not in shown


def test_another_dataset_has_a_file_of_its_own(run):
    workdir = run()
    evaluate.evaluate_run(workdir, dataset="a/b", split="val", checkpoint="last")
    evaluate.evaluate_run(workdir, dataset="made-up")
    assert sorted(path.name for path in (workdir / "eval").iterdir()) == [
        "a_b_val.json",
        "test.json",
    ]


def test_the_result_of_a_drawn_set(run):
    workdir = run(truth=truth([-1, -1, 0, 1]))
    result = evaluate.evaluate_run(workdir)
    # Each caption names its person's one attribute, which nobody shares: images 0 and 2 are one.
    assert result["oracle_rank1"] == pytest.approx(100)
    # Of the two words one belongs to the lower half; both went to the upper strip.
    assert result["word_part_accuracy"] == pytest.approx(50)
    assert result["word_part_constant"] == pytest.approx(50)
    shown = tables.of_result(result)
    assert "ceiling (attribute oracle), Rank-1: 100.00" in shown
    assert "words on their body part: 50.00 (best constant strip: 50.00)" in shown


def test_a_network_without_word_attention(run, monkeypatch):
    workdir = run(truth=truth([0]))
    monkeypatch.setattr(Encoder, "word_scores", lambda *args: None)
    result = evaluate.evaluate_run(workdir)
    assert "oracle_rank1" in result
    assert "word_part_accuracy" not in result
    assert "words on their body part" not in tables.of_result(result)


def test_a_real_folder_alone(run_folder):
    result = evaluate.evaluate_run(run_folder, split="val")
    assert (result["num_queries"], result["num_gallery"], result["step"]) == (64, 32, 3)
    assert 0 <= result["t2i"]["rank1"] <= result["t2i"]["rank10"] <= 100
    assert 0 < result["word_part_constant"] <= 100
    with pytest.raises(ValueError, match="has no split 'tset'"):
        evaluate.evaluate_run(run_folder, split="tset")
    with pytest.raises(ValueError, match="--checkpoint is 'newest'"):
        evaluate.evaluate_run(run_folder, checkpoint="newest")


def test_a_drawn_set_divided_by_camera(run_folder, tmp_path):
    """Of a run trained on the same pictures; the set is built where it is missing."""
    name = "synth_pedes/tiny_cameras"
    rows = tmp_path / "rows.csv"
    result = evaluate.evaluate_run(run_folder, dataset=name, per_query=rows)
    path = run_folder / "eval" / "synth_pedes_tiny_cameras_query.json"
    assert json.loads(path.read_text()) == result
    assert list(result["modes"]) == list(result["all"]) == ["i2i", "t2i", "it2i"]
    assert (result["num_ids"], result["num_gallery"]) == (8, 16)
    queries = {mode: scores["num_queries"] for mode, scores in result["all"].items()}
    assert queries == {"i2i": 16, "t2i": 32, "it2i": 16}
    assert len(rows.read_text().splitlines()) == 1 + 16 + 32 + 16
    # Two pictures of other cameras are there for each query.
    assert not any(result["num_left_out"])
    assert result["num_unmatched"] == {"query": 0, "gallery": 0}
    for scores in result["modes"].values():
        assert 0 < scores["map"]["mean"] <= 100
    assert f"{name}:query, best checkpoint (step 3) against gallery: 8" in tables.of_result(result)


# --- what a run is scored on ---


@pytest.mark.parametrize(
    ("there", "test_name", "asked", "wanted", "file"),
    [
        (["train", "test"], "", {}, ("own/set", "test", ""), "test.json"),
        (["query", "gallery"], "", {}, ("own/set", "query", "gallery"), "query.json"),
        (["test", "query", "gallery"], "", {}, ("own/set", "test", ""), "test.json"),
        (
            ["test", "query", "gallery"],
            "",
            {"split": "query"},
            ("own/set", "query", "gallery"),
            "query.json",
        ),
        (
            ["gallery", "query"],
            "",
            {"split": "gallery"},
            ("own/set", "gallery", ""),
            "gallery.json",
        ),
        (["train", "query"], "", {"split": "query"}, ("own/set", "query", ""), "query.json"),
        (["train"], "", {}, ("own/set", "test", ""), "test.json"),  # an error when it is read
        (["test"], "far/set", {}, ("far/set", "test", ""), "far_set_test.json"),
        (["test"], "far/set", {"dataset": "own/set"}, ("own/set", "test", ""), "test.json"),
        (["query", "gallery"], "far", {}, ("far", "query", "gallery"), "far_query.json"),
        (["test", "val"], "far", {"split": "val"}, ("far", "val", ""), "far_val.json"),
    ],
)
def test_what_a_run_is_scored_on(monkeypatch, there, test_name, asked, wanted, file):
    fields = {"name": "own/set", "test_name": test_name, "test_split": "test"}
    fields |= {"data_dir": "", "manual_dir": "", "register": ""}
    config = ConfigDict({"data": fields})
    found = []

    def finished(name, splits, **more):
        found.append(name)
        return types.SimpleNamespace(info=types.SimpleNamespace(splits=dict.fromkeys(there)))

    monkeypatch.setattr(evaluate.source, "finished", finished)
    test = evaluate.find_test_set(config, **asked)
    assert (test.dataset, test.split, test.gallery) == wanted
    assert test.file_name(config) == file
    assert found == [wanted[0]]
