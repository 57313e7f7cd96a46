"""Single-shot draws and the three kinds of query, worked out by hand."""

import dataclasses
import doctest

import numpy as np
import pytest

from jaxreid import protocols

# Person 7 is queried by two images, the second without a sentence; 5 has no gallery, 4 no query.
# What persons 7 and 9 show in the gallery in view "a" must not meet their own queries of that view.
QUERY_PIDS = np.array([7, 7, 9, 5])
QUERY_VIEWS = ("a", "b", "a", "a")
GALLERY_PIDS = np.array([7, 7, 9, 9, 4, 9])
GALLERY_VIEWS = ("a", "c", "a", "b", "a", "b")
CAPTION_IMAGE = np.array([0, 0, 2], np.int32)
# Similarity of each query image, and of each sentence (rows), with each gallery image (columns).
IMAGES = np.array(
    [[9, 2, 1, 3, 0, 3], [1, 1, 0, 2, 0, 2], [0, 0, 9, 4, 1, 4], [0, 0, 0, 0, 0, 1]], np.float32
)
CAPTIONS = np.array([[0, 5, 0, 1, 2, 1], [3, 0, 0, 0, 0, 0], [1, 0, 0, 2, 6, 2]], np.float32)

QUERY = protocols.Side(IMAGES, QUERY_PIDS, CAPTIONS, CAPTION_IMAGE, QUERY_VIEWS)
GALLERY = protocols.Side(np.eye(6, dtype=np.float32), GALLERY_PIDS, views=GALLERY_VIEWS)


def side(pids, views=None, captioned=()):
    """A side whose embeddings do not matter."""
    return protocols.Side(
        np.ones((len(pids), 1), np.float32),
        np.array(pids),
        np.ones((len(captioned), 1), np.float32),
        np.array(captioned, np.int32),
        views,
    )


def draw(query, gallery, *, seed=0, number=0):
    return protocols.draw_single_shot(query, gallery, seed=seed, number=number)


def test_a_draw_by_hand():
    drawn = [draw(QUERY, GALLERY, number=number) for number in range(10)]
    for one in drawn:
        # Persons 5, 7 (its image with a sentence) and 9; persons 4, 7 (view c) and 9 (view b).
        assert one.query.tolist() == [3, 0, 2]
        assert one.gallery[:2].tolist() == [4, 1]
        assert one.whole.tolist() == [1, 3, 4, 5]
        assert one.num_left_out == 0
    assert {one.gallery[2] for one in drawn} == {3, 5}


def test_scores_of_a_draw_by_hand():
    """Images 3 and 5 of the gallery are equally similar to everything, so that the lot decides
    nothing."""
    scores = protocols.score_draw(QUERY, GALLERY, draw(QUERY, GALLERY))
    # Person 5 cannot be found; image 3 or 5 is nearer to person 7 than its own; 9 comes first.
    assert scores["i2i"].first_rank.tolist() == [0, 2, 1]
    assert scores["i2i"].num_gallery == 3
    assert scores["i2i"].summary()["map"] == pytest.approx(50)
    # Person 5 has no sentence; image 4 is nearer to that of person 9 than its own.
    assert scores["t2i"].first_rank.tolist() == [1, 2]
    assert scores["t2i"].num_gallery == 3
    # The sums are 7 4 2 4 for person 7 and 0 6 7 6 for person 9, over images 1 3 4 5.
    assert scores["it2i"].first_rank.tolist() == [1, 2]
    assert scores["it2i"].num_gallery == 4
    assert scores["it2i"].average_precision.tolist() == pytest.approx([1, (1 / 2 + 2 / 3) / 2])
    assert scores["it2i"].inverse_penalty.tolist() == pytest.approx([1, 2 / 3])


def test_scores_of_all_queries_by_hand():
    scores = protocols.score_all(QUERY, GALLERY)
    assert scores["i2i"].first_rank.tolist() == [1, 3, 1, 0]
    precision = [(1 + 2 / 4) / 2, (1 / 3 + 2 / 4) / 2, 1, 0]
    assert scores["i2i"].average_precision.tolist() == pytest.approx(precision)
    assert scores["t2i"].first_rank.tolist() == [1, 1, 2]
    assert scores["t2i"].inverse_penalty.tolist() == pytest.approx([2 / 6, 2 / 6, 3 / 6])
    # Sums 9 7 1 4 2 4 and 1 0 9 6 7 6; image 1 has no sentence.
    assert scores["it2i"].first_rank.tolist() == [1, 1]
    assert scores["it2i"].average_precision.tolist() == pytest.approx([1, (1 + 2 / 3 + 3 / 4) / 3])
    assert {one.num_gallery for one in scores.values()} == {6}


def test_the_result_by_hand():
    found, result = protocols.evaluate_sides(QUERY, GALLERY, draws=3, seed=5)
    assert {mode: one.first_rank.tolist() for mode, one in found.items()} == {
        mode: one.first_rank.tolist() for mode, one in protocols.score_all(QUERY, GALLERY).items()
    }
    assert (result["protocol"], result["draws"], result["seed"]) == ("single_shot", 3, 5)
    assert list(result["modes"]) == list(result["all"]) == ["i2i", "t2i", "it2i"]
    assert set(result["modes"]["i2i"]) == {"rank1", "rank5", "rank10", "map", "minp"}
    assert result["modes"]["i2i"]["rank1"] == {"mean": pytest.approx(100 / 3), "std": 0}
    assert result["modes"]["t2i"]["map"] == {"mean": pytest.approx(75), "std": 0}
    assert result["modes"]["it2i"]["rank1"] == {"mean": pytest.approx(50), "std": 0}
    assert result["all"]["i2i"]["rank1"] == pytest.approx(50)
    assert result["all"]["i2i"]["num_queries"] == 4
    assert result["all"]["i2i"]["num_unmatched"] == 1
    counts = {name: result[name] for name in result if name.startswith("num_")}
    assert counts == {
        "num_ids": 2,
        "num_queries": 4,
        "num_captions": 3,
        "num_gallery": 6,
        "num_unmatched": {"query": 1, "gallery": 1},
        "num_without_caption": 2,
        "num_left_out": [0, 0, 0],
    }


def test_draws_are_the_same_on_every_machine():
    query = side([3, 1, 1, 3, 1, 2, 3], captioned=[0, 1, 2, 3, 4, 5, 6])
    gallery = side([1, 2, 3, 1, 2, 3, 1, 2, 3])
    drawn = [draw(query, gallery, seed=4, number=number) for number in range(3)]
    assert [one.query.tolist() for one in drawn] == [[4, 5, 3], [4, 5, 6], [2, 5, 6]]
    assert [one.gallery.tolist() for one in drawn] == [[3, 1, 5], [3, 1, 2], [6, 7, 5]]
    assert draw(query, gallery, seed=5).query.tolist() != drawn[0].query.tolist()
    # Without views every gallery image may meet every query.
    assert drawn[0].whole.tolist() == list(range(9))


def test_every_image_has_its_chance():
    query, gallery = side([1] * 3, captioned=[0, 1, 2]), side([1] * 4)
    drawn = [draw(query, gallery, number=number) for number in range(600)]
    for name, share in (("query", 200), ("gallery", 150)):
        counts = np.bincount([getattr(one, name)[0] for one in drawn])
        assert np.all(np.abs(counts - share) < 45)
    # The two are drawn independently.
    pairs = {(int(one.query[0]), int(one.gallery[0])) for one in drawn}
    assert len(pairs) == 12


def test_a_query_image_without_a_sentence_where_none_has_one():
    query, gallery = side([1, 1, 2, 2], captioned=[1]), side([1, 2])
    drawn = [draw(query, gallery, number=number) for number in range(20)]
    assert {one.query[0] for one in drawn} == {1}
    assert {one.query[1] for one in drawn} == {2, 3}
    scores = protocols.score_draw(query, gallery, drawn[0])
    assert [len(scores[mode].first_rank) for mode in protocols.MODES] == [2, 1, 1]


def test_a_set_without_sentences_is_searched_by_image_only():
    query, gallery = side([1, 2]), side([1, 2])
    found, result = protocols.evaluate_sides(query, gallery, draws=1, seed=0)
    assert list(found) == list(result["modes"]) == list(result["all"]) == ["i2i"]
    assert result["num_without_caption"] == 2


def test_an_identity_whose_gallery_shows_its_query_s_view_only():
    query = side([1, 2], ("x", "x"), captioned=[0, 1])
    gallery = side([1, 1, 2, 2], ("x", "x", "x", "y"))
    for number in range(8):
        one = draw(query, gallery, number=number)
        assert one.query.tolist() == [1]  # person 1 is not asked for
        assert one.gallery[0] in (0, 1)  # but distracts
        assert one.gallery[1] == 3
        assert one.whole.tolist() == [0, 1, 3]
        assert one.num_left_out == 1
    _, result = protocols.evaluate_sides(query, gallery, draws=2, seed=0)
    assert result["num_left_out"] == [1, 1]


def test_unknown_views_are_no_view():
    query, gallery = side([1], ("",), captioned=[0]), side([1, 1], ("", "x"))
    assert {draw(query, gallery, number=number).gallery[0] for number in range(20)} == {0, 1}
    plain = dataclasses.replace(query, views=None)
    assert {draw(plain, gallery, number=number).gallery[0] for number in range(20)} == {0, 1}


def test_a_mode_that_some_draw_cannot_ask_in():
    """Person 1 alone has a sentence, and is left out; person 2 is asked for by image."""
    query = side([1, 2], ("x", "x"), captioned=[0])
    gallery = side([1, 2], ("x", "y"))
    _, result = protocols.evaluate_sides(query, gallery, draws=2, seed=0)
    assert list(result["modes"]) == ["i2i"]
    assert list(result["all"]) == ["i2i", "t2i", "it2i"]


def test_nothing_to_find():
    with pytest.raises(ValueError, match="no identity is in both query and gallery. See that"):
        protocols.evaluate_sides(side([1, 2]), side([3]), draws=1, seed=0)
    with pytest.raises(ValueError, match="query and gallery images show the same view. Divide"):
        protocols.evaluate_sides(side([1], ("x",)), side([1], ("x",)), draws=1, seed=0)


def test_the_spread_over_draws():
    scores = [{"rank1": 10.0, "map": 1.0}, {"rank1": 14.0, "map": 1.0}]
    assert protocols.spread(scores, ["rank1"]) == {
        "rank1": {"mean": 12.0, "std": pytest.approx(8**0.5)}
    }
    assert protocols.spread(scores[:1], ["map"]) == {"map": {"mean": 1.0, "std": 0.0}}


def test_examples():
    assert doctest.testmod(protocols).failed == 0
    first = protocols.first_captions(np.array([2, 0, 2, 0]), 3)
    assert first.tolist() == [1, -1, 0]  # of sentences in any order
