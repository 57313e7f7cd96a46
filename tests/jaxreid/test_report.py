"""The report: one page, complete, safe and the same again, whatever state the run is in."""

import base64
import dataclasses
import doctest
import json
import re
import types

import jax
import matplotlib
import numpy as np
import pytest

from jaxreid import config as config_lib
from jaxreid import (
    evaluate,
    exhibits,
    figures,
    report,
    retrieval,
    runs,
    text,
)
from jaxreid.data import source
from tests.jaxreid import tiny, tiny_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a tiny network on drawn people, stopped before its first validation."""
    base = tmp_path_factory.mktemp("report")
    config = tiny.config()
    config.data.name = "synth_pedes/tiny"
    config.data.data_dir, config.data.cache_dir = str(base / "data"), str(base / "cache")
    workdir = base / "run"
    return workdir, tiny_runs.make_run(config, workdir)


def test_report_of_a_run_before_and_after_validation(folder):
    workdir, variables = folder
    page = report.write_report(workdir).read_text()
    assert "the last one, step 3" in page
    assert "jaxreid evaluate --workdir" in page
    assert "Nothing was logged yet." in page
    assert page.count('class="query"') == 8
    assert page.count('class="map"') == 4
    assert not any(title in page for title in ("<h2>Where", "<h2>Which"))  # of another network

    tiny_runs.save(workdir, variables, step=4, score=1.0)
    lines = [{"step": 2, "train/loss": 3.0}, {"step": 4, "val/t2i/rank1": 5.0}]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = evaluate.evaluate_run(workdir)
    path = report.write_report(workdir)
    page = path.read_text()
    assert path == workdir / "report.html"
    assert "best by validation, step 4" in page
    assert "Not evaluated yet" not in page
    for direction in ("t2i", "i2t"):
        assert f"<td>{result[direction]['map']:.2f}</td>" in page
    assert f"{result['oracle_rank1']:.1f}%, the ceiling" in page
    assert f"{result['word_part_constant']:.1f}%, the best constant strip" in page
    assert page.count("<figcaption>Total loss") == 1
    assert page.count('class="hits"') == page.count('alt="Rank 10')
    assert page.count('class="box') > 0
    _assert_self_contained(page)


def _assert_self_contained(page):
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith(("data:image/svg", "data:image/jpeg")) for source in sources)
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)
    assert len(page) < 4e6


def test_parameters_are_counted_without_padding_classes(folder):
    workdir, variables = folder
    run = retrieval.load_run(workdir, which="last")
    data = runs.load_captioned(run.config, "test", run.vocabulary)
    params = variables["params"]
    rest = {name: leaf for name, leaf in params.items() if not name.startswith("classifier")}
    total = sum(leaf.size for leaf in jax.tree.leaves(rest))
    # Global, six parts and six relations, each with weights and a bias for each class.
    sizes = run.config.model
    heads = 7 * (sizes.global_dim + 1) + 6 * (sizes.relation_dim + 1)
    assert len(run.classes) < 256
    assert report.facts(run, data)["Parameters"] == (
        f"{total:,}, and {heads * len(run.classes):,} of identity classifiers for training only"
    )


def test_folder_that_is_no_run_and_run_without_checkpoint_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run: it has no config\.json"):
        report.write_report(tmp_path)
    config_lib.save(tiny.config(), tmp_path)
    with pytest.raises(ValueError, match="holds no checkpoints"):
        report.write_report(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "vocabulary.json").write_text('{"format": "jaxreid-vocabulary", "version": 1, '
                                              '"unknown": "unk", "words": ["a"]}')  # fmt: skip
    (tmp_path / "classes.json").write_text("[]")
    with pytest.raises(ValueError, match="no 'best' checkpoint yet"):
        report.write_report(tmp_path)


WORDS = text.Vocabulary(("red", "shirt"))


def _split(captions, num_images=1):
    return source.Split(
        name="made-up:test",
        images=np.zeros((num_images, 8, 4, 3), np.uint8),
        image_ids=tuple(f"{i}.jpg" for i in range(num_images)),
        pids=np.arange(num_images),
        camids=np.full(num_images, -1),
        captions=tuple(captions),
        caption_image=np.zeros(len(captions), np.int32),
    )


def _run(images, captions, scores=None):
    """A run whose encoder has already answered."""
    encoder = types.SimpleNamespace(
        images=lambda *_: images, captions=lambda *_: captions, word_scores=lambda *_: scores
    )
    run = object.__new__(retrieval.Run)  # without the network that its fields ask for
    run.__dict__.update(encoder=encoder, variables={}, vocabulary=WORDS)
    return run


def _captioned(split):
    return runs.Captioned(split, *WORDS.encode(split.captions, 3))


def test_one_query_and_a_gallery_of_one():
    run = _run(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    data = _captioned(_split(["a red shirt"]))
    queries, drawn = exhibits.ranked_lists(run, data, str)
    assert drawn.tolist() == [0]
    assert queries == [
        exhibits.Query("a red shirt", "0", 1, 1, (exhibits.Hit("0", 2.0, True),), False)
    ]
    assert exhibits.word_maps(run, data, drawn, str) == []  # a network without word attention


def test_lists_tell_right_from_wrong():
    images = np.array([[0, 1], [1, 0], [0.5, 0]], np.float32)
    run = _run(images, np.array([[1, 0.25]], np.float32))
    (query,), _ = exhibits.ranked_lists(run, _captioned(_split(["red"], num_images=3)), str)
    assert [(hit.picture, hit.right) for hit in query.hits] == [
        ("1", False),
        ("2", False),
        ("0", True),
    ]
    assert [hit.similarity for hit in query.hits] == [1.0, 0.5, 0.25]
    assert (query.first_rank, query.num_right) == (3, 1)


def test_queries_are_drawn_by_lot_and_failures_follow_only_where_none_was_drawn():
    def choose(first_rank):
        return exhibits.choose_queries(np.array(first_rank), np.random.default_rng(0))

    drawn, failures = choose([2] * 20)
    assert len(set(drawn.tolist())) == 8
    assert not len(failures)
    assert drawn.tolist() == choose([2] * 20)[0].tolist()
    ranks = np.ones(20, int)
    wrong = np.setdiff1d(np.arange(20), drawn)[:3]
    ranks[wrong] = [2, 0, 9]
    drawn, failures = choose(ranks)
    assert len(failures) == 2
    assert np.isin(failures, wrong).all()
    assert not len(choose([1])[1])


def test_words_are_those_that_the_network_saw_with_their_regions():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0, 0]], np.float32)
    boxes = np.array([[0.0, 0.1, 0.25, 0.9], [-1, -1, -1, -1]], np.float32)
    dropping = text.Vocabulary(("red", "shirt"), unknown="drop")
    words = exhibits.name_words(dropping, "A red, <b>bold</b> shirt", scores)
    assert [(word.text, word.known, word.best) for word in words] == [
        ("red", True, 1),
        ("shirt", True, 0),
    ]
    marked = exhibits.add_truth(words, np.array([0, 1]), boxes, ("head", "bag"))
    assert marked[0].box == (0.0, 0.25)
    assert marked[0].region == "head"
    assert marked[1].box is None  # not shown in this image
    assert exhibits.add_truth(words[:1], np.array([-1]), boxes, ("head", "bag")) == words[:1]
    keeping = text.Vocabulary(("red", "shirt"), unknown="unk")
    words = exhibits.name_words(keeping, "A red shirt", scores)
    assert [(word.text, word.known) for word in words] == [
        ("a", False),
        ("red", True),
        ("shirt", True),
    ]


def _content(**changes):
    result = {direction: dict.fromkeys(report.COLUMNS, 12.345) for direction in ("t2i", "i2t")}
    result |= {"num_queries": 1, "num_gallery": 1, "dataset": "d", "split": "s"}
    result |= {"checkpoint": "best", "step": 7}
    return {
        "name": "a",
        "workdir": "w",
        "step": 7,
        "facts": {},
        "results": [result],
        "searched_in": "",
        "panels": [],
        "queries": [],
        "word_maps": [],
        "looks": None,
        "phrases": None,
        "config": "{}",
    } | changes


def test_strings_are_escaped():
    evil = "<script>alert('&\"')</script>"
    hit = exhibits.Hit("data:,", 1.0, right=False)
    query = exhibits.Query(evil, "data:,", 0, 0, (hit,), is_failure=True)
    word = exhibits.Word(evil, False, (0.5, 0.25), (0.0, 0.5), evil)
    page = report.render(
        **_content(
            name=evil,
            workdir=evil,
            facts={evil: evil},
            queries=[query],
            word_maps=[exhibits.WordMap("data:,", (word,), 2)],
            config=evil,
        )
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;&amp;&#34;&#39;)&lt;/script&gt;") >= 8
    assert "chosen failure" in page
    assert "No image of this person is in the gallery." in page
    assert "✗" in page


def test_sections_without_content_are_left_out():
    page = report.render(**_content())
    assert "12.35" in page or "12.34" in page
    assert not any(title in page for title in ("Words and parts", "<h2>Where", "<h2>Which"))
    assert "ceiling" not in page
    assert "of step 7" not in page
    assert "The searches below are of step 9." in report.render(**_content(step=9))


def test_results_of_the_test_split_come_first_and_broken_ones_are_errors(tmp_path):
    assert report.load_results(tmp_path, "test") == []
    (tmp_path / "eval").mkdir()
    good = _content()["results"][0]
    for name in ("a", "test", "val"):
        (tmp_path / "eval" / f"{name}.json").write_text(json.dumps(good | {"split": name}))
    found = report.load_results(tmp_path, "test")
    assert [result["split"] for result in found] == ["test", "a", "val"]
    for broken, message in (
        ("{", "is no result"),
        ("[1]", "is no result"),
        ('{"t2i": 3}', "is no result"),
        (json.dumps(good | {"t2i": {"map": 1.0}}), r"lacks minp, rank1, rank10, rank5; write"),
    ):
        (tmp_path / "eval" / "val.json").write_text(broken)
        with pytest.raises(ValueError, match=message):
            report.load_results(tmp_path, "test")


def _sides_result():
    drawn = {name: {"mean": 43.21, "std": 1.25} for name in report.COLUMNS}
    whole = dict.fromkeys(report.COLUMNS, 54.32) | {"num_queries": 1096}
    counts = {"num_ids": 824, "num_queries": 1096, "num_captions": 2200, "num_gallery": 1511}
    counts |= {"num_unmatched": {"query": 0, "gallery": 2}, "num_without_caption": 0}
    return {
        "protocol": "single_shot",
        "modes": {"i2i": drawn, "t2i": drawn, "it2i": drawn},
        "all": {"i2i": whole, "t2i": whole, "it2i": whole},
        "draws": 10,
        "seed": 3,
        "num_left_out": [0, 1],
        "dataset": "cross_re_id",
        "split": "query",
        "checkpoint": "best",
        "step": 7,
    } | counts


def test_results_of_queries_against_a_gallery(tmp_path):
    (tmp_path / "eval").mkdir()
    good = _sides_result()
    path = tmp_path / "eval" / "query.json"
    path.write_text(json.dumps(good))
    assert report.load_results(tmp_path, "query") == [good]
    both = [good, *_content()["results"]]
    page = report.render(**_content(results=both, searched_in="gallery"))
    assert page.count("<td>43.21 ± 1.25</td>") == 15
    assert page.count("<td>54.32</td>") == 15
    assert "<b>43.2%</b> from text to image" in page
    assert "± 1.2 over 10 draws" in page or "± 1.3 over 10 draws" in page
    assert "2 people have gallery images only: they distract." in page
    assert "all their gallery images show the view of their query: 0, 1." in page
    assert "have query images only" not in page
    assert "was written for is not part of the gallery" in page
    assert "<td>12.35</td>" in page or "<td>12.34</td>" in page  # the other result, as ever
    for field in ("all", "seed", "num_gallery"):
        path.write_text(json.dumps({key: good[key] for key in good if key != field}))
        with pytest.raises(ValueError, match=rf"query\.json lacks {field}; write it again"):
            report.load_results(tmp_path, "query")
    path.write_text(json.dumps(good | {"modes": {"i2i": {"rank1": 3}}}))
    with pytest.raises(ValueError, match="lacks map, minp, rank10, rank5; write"):
        report.load_results(tmp_path, "query")


def test_searches_in_another_split():
    images = np.array([[0, 1], [1, 0]], np.float32)
    run = _run(images, np.array([[1, 0.25]], np.float32))
    gallery = dataclasses.replace(_split([], num_images=2), name="made-up:gallery")
    gallery = dataclasses.replace(gallery, pids=np.array([0, 5]))
    (query,), _ = exhibits.ranked_lists(
        run,
        _captioned(_split(["red"])),
        str,
        gallery=gallery,
        gallery_pictures=lambda index: f"g{index}",
    )
    assert query.picture == "0"
    assert [(hit.picture, hit.right) for hit in query.hits] == [("g1", False), ("g0", True)]
    assert (query.first_rank, query.num_right) == (2, 1)


def test_panels_group_the_parts_of_the_loss_by_kind():
    names = ("loss", "id_global", "id_part", "new_x", "rank_global", "grad_norm", "learning_rate")
    lines = [{"step": s, **{f"train/{name}": 1.0 * s for name in names}} for s in (1, 2)]
    lines += [{"step": 2, "val/t2i/rank1": 3.0, "val/i2t/rank1": float("nan"), "note": "x"}]
    panels = figures.training_panels(lines)
    assert [(panel.title, [curve.name for curve in panel.curves]) for panel in panels] == [
        ("Validation Rank-1, percent", ["text to image"]),
        ("Total loss", ["loss"]),
        ("Identity loss", ["global", "part"]),
        ("Ranking loss, strong captions", ["global"]),
        ("new", ["x"]),
        ("Learning rate", ["rate"]),
    ]
    assert panels[2].curves[1] == figures.Curve("part", (1, 2), (1.0, 2.0))
    assert {panel.last_step for panel in panels} == {2}
    assert figures.training_panels([]) == []


@pytest.mark.parametrize(
    "values", [(0.0,), (1e-3, 1e-4, 1e-5), (-1.0, 2.0), (3.0,) * 3, (0.0, 0.0)]
)
def test_drawing_a_panel_leaves_nothing_behind(values):
    before = dict(matplotlib.rcParams)
    curve = figures.Curve("a $x$ <b>", tuple(range(len(values))), values)
    panel = figures.Panel("t", (curve, curve), last_step=len(values) - 1, from_zero=True, log=True)
    uris = [figures.panel_uri(panel, figures.THEMES["light"]) for _ in range(2)]
    assert uris[0].startswith("data:image/svg+xml;base64,")
    assert uris[0] == uris[1]
    assert uris[0] != figures.panel_uri(panel, figures.THEMES["dark"])
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("wide", [False, True])
def test_the_names_of_curves_have_room(wide):
    curves = tuple(figures.Curve(name, (1, 2), (1.0, 2.0)) for name in ("text to image", "part"))
    uri = figures.panel_uri(figures.Panel("", curves, 2, wide=wide), figures.THEMES["light"])
    picture = base64.b64decode(uri.partition(",")[2]).decode()
    width = float(re.search(r'<svg .*?width="([\d.]+)pt"', picture)[1])
    start = float(re.search(r'<text [^>]*\bx="([\d.]+)"[^>]*>text to image', picture)[1])
    # 10 points high; a letter of DejaVu Sans, as wide as fonts get, takes 0.58 of that on average.
    assert start + len("text to image") * 5.8 < width


def test_a_long_name_leaves_room_for_its_curve():
    curves = tuple(figures.Curve(name, (1, 2), (1.0, 2.0)) for name in ("long" * 20, "part"))
    assert figures.panel_uri(figures.Panel("", curves, 2), figures.THEMES["light"])


def test_labels_are_moved_apart_and_stay_inside():
    assert doctest.testmod(figures).failed == 0
    assert figures.spread([0.95, 1.0, 0.0], gap=0.25) == [0.75, 1.0, 0.0]
    assert figures.spread([0.5], gap=0.2) == [0.5]
    assert figures.spread([], gap=0.2) == []
