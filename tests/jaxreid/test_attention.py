"""Where AXM-Net looks: shares and stretches by hand, and the report of a run with them."""

import base64
import pathlib
import re
import types

import cv2
import numpy as np
import pytest

from configs import axm_net
from jaxreid import attention, cli, figures, report, retrieval, runs, text
from jaxreid.models.axm_net import AXMNet
from tests.jaxreid import tiny, tiny_runs


def test_an_average_comes_from_all_places_and_a_maximum_from_those_that_win():
    maps = np.array([[[[3, 1], [0, 1]], [[1, 0], [0, 2]]]], np.float32)  # [1, 2, 2, 2]
    shares = attention.place_shares(maps, "average")
    np.testing.assert_allclose(shares, [[[4 / 8, 1 / 8], [1 / 8, 2 / 8]]])
    shares = attention.place_shares(maps, "max")
    np.testing.assert_allclose(shares, [[[3 / 5, 0], [0, 2 / 5]]])
    tied = np.array([[[[3, 2], [3, 0]], [[0, 0], [3, 0]]]], np.float32)
    np.testing.assert_allclose(attention.place_shares(tied, "max"), [[[3 / 5, 1 / 5], [0, 1 / 5]]])
    for pooling in ("average", "max"):
        assert not attention.place_shares(np.zeros((1, 2, 3, 4), np.float32), pooling).any()


@pytest.mark.parametrize("size", [(320, 107), (64, 64), (30, 200)])
@pytest.mark.parametrize("cell", [(0, 0), (5, 2), (7, 3), (2, 1)])
def test_a_hot_cell_ends_up_where_it_was(size, cell):
    weights = np.zeros((8, 4), np.float32)
    weights[cell] = 0.03
    image = np.full((*size, 3), 128, np.uint8)
    over = figures.overlay(image, weights).astype(int)
    assert over.shape == image.shape
    cold = figures.overlay(image, np.zeros_like(weights)).astype(int)
    changed = np.abs(over - cold).sum(-1)
    # The centre of the coloured spot, weighed by its colour; at a border half of it is outside.
    rows, columns = np.nonzero(changed == changed.max())
    height, width = size[0] / 8, size[1] / 4
    assert cell[0] * height <= rows.mean() + 0.5 <= (cell[0] + 1) * height
    assert cell[1] * width <= columns.mean() + 0.5 <= (cell[1] + 1) * width
    # Two cells away nothing of it is left.
    far = np.ones(size, bool)
    far[
        max(0, int((cell[0] - 2) * height)) : int((cell[0] + 3) * height) + 1,
        max(0, int((cell[1] - 2) * width)) : int((cell[1] + 3) * width) + 1,
    ] = False
    assert far.any()
    assert not changed[far].any()


def test_an_overlay_is_read_by_its_lightness():
    image = np.full((8, 80, 3), 100, np.uint8)
    over = figures.overlay(image, np.linspace(0, 1, 80, dtype=np.float32)[None])
    lightness = cv2.cvtColor(over, cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= 0).all()
    assert lightness[-1] > lightness[0] + 100
    ramp = figures.heat_ramp(3)
    assert len(ramp) == 3
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in ramp)


def _words(map):
    return [" ".join(word for word, _ in stretch.words) for stretch in map.stretches]


def _weights(size):
    """Rows of different weights that sum to 1."""
    raw = np.random.default_rng(0).uniform(0.1, 1, (size, size)).astype(np.float32)
    return raw / raw.sum(1, keepdims=True)


VOCABULARY = text.Vocabulary(tuple("abcdefghi"))


def test_a_sentence_is_cut_into_stretches_and_padding_is_one():
    weights = _weights(5)
    map = attention.phrase_map(VOCABULARY, "A b c d, e f.", 6, weights, masked=False)
    assert _words(map) == ["a b c d", "e f", ""]
    assert [stretch.num_positions for stretch in map.stretches] == [1, 1, 3]
    assert [stretch.text for stretch in map.stretches] == ["“a b c d”", "“e f”", "padding"]
    table = np.array(map.weights)
    np.testing.assert_allclose(table[:2, :2], weights[:2, :2])
    np.testing.assert_allclose(table[:2, 2], weights[:2, 2:].sum(1), rtol=1e-5)
    np.testing.assert_allclose(table[2, :2], weights[2:, :2].mean(0), rtol=1e-5)
    np.testing.assert_allclose(table.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(map.totals[:2], weights.mean(0)[:2], rtol=1e-5)
    assert map.totals[2] == pytest.approx(weights.mean(0)[2:].sum())
    assert (map.num_positions, map.num_cut) == (5, 0)


def test_masked_padding_has_no_place():
    weights = np.zeros((5, 5), np.float32)
    weights[:, :2] = [0.25, 0.75]
    map = attention.phrase_map(VOCABULARY, "a b c d e f", 6, weights, masked=True)
    assert _words(map) == ["a b c d", "e f"]
    assert map.weights == ((0.25, 0.75), (0.25, 0.75))
    assert map.totals == (0.25, 0.75)
    assert map.most == 1
    assert map.num_positions == 2


def test_words_that_are_cut_dropped_or_unknown():
    map = attention.phrase_map(VOCABULARY, "a b c d e f g h i", 8, _weights(2), masked=False)
    assert _words(map) == ["a b c d", "e f g h"]  # no padding is left
    assert map.num_cut == 1
    # 10 tokens, halved twice, are two positions: the last two words get none.
    map = attention.phrase_map(VOCABULARY, "a b c d e f g h i a", 10, _weights(2), masked=False)
    assert (_words(map)[-1], map.num_cut) == ("e f g h", 2)
    kept = attention.phrase_map(VOCABULARY, "a x b", 3, _weights(2), masked=False)
    assert kept.stretches[0].words == (("a", True), ("x", False), ("b", True))
    dropping = text.Vocabulary(tuple("ab"), unknown="drop")
    dropped = attention.phrase_map(dropping, "a x b", 2, _weights(2), masked=False)
    assert dropped.stretches[0].words == (("a", True), ("b", True))
    assert dropped.num_cut == 0


def test_ties_are_of_two_stretches_of_words_and_twice_the_even_weight():
    weights = np.array([[0.1, 0.8, 0.1], [0.7, 0.3, 0.0], [0.0, 0.0, 1.0]], np.float32)
    map = attention.phrase_map(VOCABULARY, "a b c d e f", 6, weights, masked=False)
    (first, second) = map.ties
    assert (first[0].text, first[1].text) == ("“a b c d”", "“e f”")
    assert [first[2], second[2]] == pytest.approx([0.8, 0.7])
    assert map.most == 1  # of the words, though padding has as much
    even = np.full((3, 3), 1 / 3, np.float32)
    map = attention.phrase_map(VOCABULARY, "a b c d e f", 6, even, masked=False)
    assert map.ties == []
    assert map.spread == pytest.approx(3)
    assert attention.spread(np.eye(4, dtype=np.float32)) == pytest.approx(1)


def _run(model, phrases=None, scale=0.0):
    """A run whose encoder has already answered."""
    found = {} if phrases is None else {"phrases": phrases}
    encoder = types.SimpleNamespace(caption_outputs=lambda *_: found)
    params = {"non_local": {"bn": {"scale": np.full(2, scale)}}}
    run = object.__new__(retrieval.Run)  # without the folder that its fields ask for
    values = {"encoder": encoder, "model": model, "variables": {"params": params}}
    run.__dict__.update(values, vocabulary=VOCABULARY)
    return run


def test_phrases_of_captions_that_have_a_word():
    captions = ("a b c d e", "?", "b")
    split = types.SimpleNamespace(captions=captions)
    data = object.__new__(runs.Captioned)
    tokens, lengths, _ = VOCABULARY.encode(captions, 8)
    data.__dict__.update(split=split, tokens=tokens, lengths=lengths)
    even = np.full((3, 2, 2), 0.5, np.float32)
    model = AXMNet(12, max_tokens=8)
    found = attention.phrases(_run(model, even, scale=-0.5), data, np.arange(3))
    assert [map.sentence for map in found.maps] == ["a b c d e", "b"]
    assert (found.scale, found.masked) == (0.5, False)
    assert attention.phrases(_run(model), data, np.arange(3)) is None  # without NLA
    page = _render(phrases=attention.phrases(_run(model, even), data, np.arange(3)))
    assert "still 0" in page
    assert "lies on 2.0 of 2 positions" in page
    assert "twice the even weight of 50%" in page
    assert "still 0" not in _render(phrases=found)


def _render(**changes):
    content = {"name": "a", "workdir": "w", "step": 1, "facts": {}, "results": [], "panels": []}
    content |= {"searched_in": "", "queries": [], "word_maps": [], "looks": None, "phrases": None}
    return report.render(**content | {"config": "{}"} | changes)


def test_words_and_titles_are_escaped():
    evil = "<script>"
    stretch = attention.Stretch(((evil, True), (evil, False)))
    map = attention.PhraseMap(evil, (stretch,), ((1.0,),), 1, 1.0, (1.0,), 2)
    shown = attention.Looks(evil, ("global",), ("average",), (2, 1), (("data:,",),))
    page = _render(
        looks=attention.Gallery(("data:,",), (shown, shown), (f"{evil} -> {evil}",)),
        phrases=attention.Phrases((map,), 1.0, masked=True),
    )
    assert evil not in page
    assert page.count("&lt;script&gt;") >= 10
    assert "Padding is masked." in page
    assert "The last 2 words are cut off" in page


@pytest.fixture(scope="module")
def folders(tiny_data_dir, tmp_path_factory):
    """Folders of two tiny runs, AXM-Net and its baseline."""
    base = tmp_path_factory.mktemp("attention")
    for name, variant in (("full", "runlocal"), ("baseline", "baseline,runlocal")):
        config = axm_net.get_config(f"quickstart,{variant}")
        config.data.update(
            name="synth_pedes/tiny", data_dir=str(tiny_data_dir), cache_dir=str(base / "cache")
        )
        tiny_runs.make_run(config, base / name)
    return base


@pytest.mark.usefixtures("compile_fast")
def test_the_report_shows_both_runs(folders, capsys):
    words = ["report", "--workdir", str(folders / "full")]
    assert cli.main([*words, "--beside", str(folders / "baseline")]) == 0
    assert "Wrote" in capsys.readouterr().out
    page = (folders / "full" / "report.html").read_text()
    assert "<h2>Where V<sub>g</sub> and V<sub>p</sub> look</h2>" in page
    assert "full beside baseline" in page
    assert "model.part: True → False" in page
    cards = page.split('class="look"')[1:]
    assert 1 <= len(cards) <= 8
    for card in cards:
        kinds = re.findall('class="kind">(.*?)</span>', card)
        assert kinds == ["image", "V<sub>g</sub>", "V<sub>p</sub>", "V<sub>g</sub>"]
        uris = re.findall('<img src="data:image/jpeg;base64,([^"]+)"', card)[:4]
        sizes = {cv2.imdecode(_bytes(uri), cv2.IMREAD_COLOR).shape for uri in uris}
        assert sizes == {(320, 107, 3)}
        assert len(set(uris)) == 4
    assert page.count('class="phrases"') == 4
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)


def _bytes(uri):
    return np.frombuffer(base64.b64decode(uri), np.uint8)


def test_a_folder_beside_that_is_no_run(folders):
    with pytest.raises(
        ValueError, match=r"--beside '.*nowhere': .* is not a run: it has no config"
    ):
        report.write_report(folders / "full", beside=folders / "nowhere")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.image_size", (64, 32), r"\(data\.image_size: \[96, 32\] -> \[64, 32\]\), so their"),
        ("data.name", "cuhk_pedes", "data.name: 'synth_pedes/tiny' -> 'cuhk_pedes'"),
        ("data.test_split", "val", "data.test_split: 'test' -> 'val'"),
        ("data.resize", "bicubic", "Name a run with the same data.name, data.test_split, "),
    ],
)
def test_a_run_beside_that_saw_other_pictures(field, value, message):
    runs = [_configured(axm_net.get_config("quickstart,runlocal")) for _ in range(2)]
    attention.check_beside(*runs)
    runs[1].config.update_from_flattened_dict({field: value, "data.data_dir": "elsewhere"})
    with pytest.raises(ValueError, match=message):
        attention.check_beside(*runs)


def test_a_run_beside_without_maps():
    ours, other = (
        _configured(config, model)
        for config, model in (
            (axm_net.get_config("quickstart,runlocal"), AXMNet(12)),
            (tiny.config(), types.SimpleNamespace()),
        )
    )
    for pair in ((ours, other), (other, ours)):
        with pytest.raises(
            ValueError, match=r"'here/ssan' has none: its config\.model\.name is 'ss"
        ):
            attention.check_beside(*pair)


def _configured(config, model=None):
    """A run of which only its configuration and its network are asked."""
    run = _run(model or AXMNet(12))
    run.__dict__.update(config=config, workdir=pathlib.Path("here") / config.model.name)
    return run


def test_runs_are_named_by_their_folders(tmp_path):
    first, second, same = (_run(None) for _ in range(3))
    for run, name in ((first, "a/x"), (second, "a/y"), (same, "b/x")):
        run.__dict__["workdir"] = tmp_path / name
    assert attention.titles(first, second) == ("x", "y")
    assert attention.titles(first, same) == (str(tmp_path / "a/x"), str(tmp_path / "b/x"))
