"""Metrics against values worked out by hand and against a slow transcript of their definition."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import counting, metrics, sharding
from jaxreid.metrics import both_directions, retrieval_metrics, top_matches

KEYS = ["rank1", "rank5", "rank10", "map", "minp", "map_trapezoid"]


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def _of_matrix(similarity, query_ids, gallery_ids, **options):
    """Scores of a similarity matrix: its rows as queries against unit vectors."""
    similarity = np.asarray(similarity, np.float32)
    gallery = np.eye(similarity.shape[1], dtype=np.float32)
    return retrieval_metrics(
        similarity, gallery, np.asarray(query_ids), np.asarray(gallery_ids), **options
    )


def _transcript(similarity, query_ids, gallery_ids, ks=(1, 5, 10)):
    """Walks down a sorted list, wrong items first among equals, as an evaluation script would."""
    sums = dict.fromkeys([f"rank{k}" for k in ks] + ["map", "minp", "map_trapezoid"], 0.0)
    unmatched = 0
    for row, pid in zip(similarity, query_ids, strict=True):
        hits = [int(other == pid) for other in gallery_ids]
        order = sorted(range(len(hits)), key=lambda j: (-row[j], hits[j]))
        total = sum(hits)
        if total == 0:
            unmatched += 1
            continue
        found, precision, average, area, last = 0, 1.0, 0.0, 0.0, 0
        for rank, j in enumerate(order, start=1):
            before = precision
            found += hits[j]
            precision = found / rank
            if hits[j]:
                average += precision / total
                area += (before + precision) / 2 / total
                last = rank
                if found == 1:
                    for k in ks:
                        sums[f"rank{k}"] += rank <= k
        sums["map"] += average
        sums["map_trapezoid"] += area
        sums["minp"] += total / last
    result = {name: 100 * value / len(query_ids) for name, value in sums.items()}
    return result | {
        "num_queries": len(query_ids),
        "num_gallery": len(gallery_ids),
        "num_unmatched": unmatched,
    }


def _random_problem(seed, num_queries=37, num_gallery=53, num_ids=9):
    """Embeddings of few whole numbers: many ties, duplicates, and products exact in any order."""
    rng = np.random.default_rng(seed)
    query = rng.integers(-2, 3, (num_queries, 3)).astype(np.float32)
    gallery = rng.integers(-2, 3, (num_gallery, 3)).astype(np.float32)
    ids = rng.integers(-(2**62), 2**62, num_ids)
    return (
        query,
        gallery,
        ids[rng.integers(0, num_ids, num_queries)],
        ids[rng.integers(1, num_ids, num_gallery)],
    )


def test_docstring_examples():
    result = doctest.testmod(metrics)
    assert result.attempted == 7
    assert result.failed == 0


def test_small_matrix_by_hand():
    # Query 0: ranks 1 and 4 of its two matches. Query 1: one match, behind two better wrong items.
    # Query 2: no match.
    scores = _of_matrix(
        [[0.9, 0.8, 0.7, 0.1], [0.5, 0.6, 0.4, 0.9], [0.1, 0.2, 0.3, 0.4]],
        [1, 1 + 2**40, 3],
        [1, 2, 1 + 2**40, 1],
        ks=(1, 3),
    )
    # Query 1 ranks 3 (0.9), 1 (0.6), 0 (0.5), 2 (0.4): its match has rank 4.
    np.testing.assert_array_equal(scores.first_rank, [1, 4, 0])
    np.testing.assert_array_equal(scores.num_matches, [2, 1, 0])
    np.testing.assert_allclose(scores.average_precision, [(1 + 2 / 4) / 2, 1 / 4, 0])
    np.testing.assert_allclose(scores.inverse_penalty, [2 / 4, 1 / 4, 0])
    # Just before the hit at rank 4 the precision is 1/3 for query 0 and 0 for query 1.
    trapezoid = [((1 + 1) / 2 + (1 / 3 + 2 / 4) / 2) / 2, (0 + 1 / 4) / 2, 0]
    np.testing.assert_allclose(scores.trapezoid, trapezoid)
    assert scores.summary() == pytest.approx(
        {
            "rank1": 100 / 3,
            "rank3": 100 / 3,
            "map": 100 * (0.75 + 0.25) / 3,
            "minp": 100 * (0.5 + 0.25) / 3,
            "map_trapezoid": 100 * sum(trapezoid) / 3,
            "num_queries": 3,
            "num_gallery": 4,
            "num_unmatched": 1,
        }
    )
    assert set(scores.per_query()) == {
        "first_rank",
        "average_precision",
        "inverse_penalty",
        "trapezoid",
        "num_matches",
    }


def test_ties_count_against_us():
    # The match is as similar as two wrong items and less similar than one.
    scores = _of_matrix([[0.5, 0.5, 0.5, 0.9, 0.1]], [7], [7, 1, 2, 3, 4])
    assert scores.first_rank.tolist() == [4]
    # Two equal matches take ranks 1 and 2, not 1 twice.
    scores = _of_matrix([[0.5, 0.5, 0.1]], [7], [7, 7, 1])
    assert scores.average_precision.tolist() == [1.0]


@pytest.mark.parametrize("block_size", [3, 16, 1024])
def test_constant_similarity_scores_nothing(block_size):
    embedding = np.random.default_rng(0).normal(size=(1, 100))
    ids = np.arange(200)
    constant = np.repeat(embedding, 200, axis=0)
    scores = retrieval_metrics(constant, constant, ids, ids, block_size=block_size)
    assert (scores.first_rank == 200).all()
    assert scores.summary()["rank10"] == 0
    assert scores.summary()["map"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_transcript_at_any_block_size(seed):
    query, gallery, query_ids, gallery_ids = _random_problem(seed)
    expected = _transcript(query @ gallery.T, query_ids, gallery_ids)
    assert expected["num_unmatched"] > 0
    first = None
    for block_size in (1, 10, 16, 53, 1000):
        scores = retrieval_metrics(query, gallery, query_ids, gallery_ids, block_size=block_size)
        assert scores.summary() == pytest.approx(expected, abs=1e-9)
        first = first or scores
        for name, values in scores.per_query().items():
            np.testing.assert_array_equal(values, first.per_query()[name])


def test_real_numbers_of_any_float_type_and_home(tmp_path):
    rng = np.random.default_rng(5)
    query = rng.normal(size=(30, 64)).astype(np.float16)
    gallery = rng.normal(size=(45, 64)).astype(np.float16)
    query_ids, gallery_ids = rng.integers(0, 6, 30), rng.integers(0, 6, 45)
    expected = _transcript(
        query.astype(np.float64) @ gallery.T.astype(np.float64), query_ids, gallery_ids
    )
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    on_device = jnp.asarray(query), jnp.asarray(gallery)
    for one, other in ((query, mapped), on_device, (query.astype(np.float64), on_device[1])):
        scores = retrieval_metrics(one, other, query_ids, gallery_ids, block_size=20)
        assert scores.summary() == pytest.approx(expected)
    scores = retrieval_metrics(*on_device, jnp.asarray(query_ids), jnp.asarray(gallery_ids))
    assert scores.summary() == pytest.approx(expected)


@pytest.mark.parametrize(("gallery_id", "expected"), [(4, 100.0), (5, 0.0)])
def test_one_query_and_one_gallery_item(gallery_id, expected):
    one = np.ones((1, 2), np.float32)
    summary = retrieval_metrics(one, one, np.array([4]), np.array([gallery_id])).summary()
    assert {summary[name] for name in KEYS} == {expected}
    assert summary["num_unmatched"] == (expected == 0)


def test_all_of_one_identity_and_all_unmatched():
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    summary = retrieval_metrics(vectors, vectors, np.zeros(9, int), np.zeros(9, int)).summary()
    assert {summary[name] for name in KEYS} == {100.0}
    summary = retrieval_metrics(vectors, vectors, np.zeros(9, int), np.ones(9, int)).summary()
    assert {summary[name] for name in KEYS} == {0.0}
    assert summary["num_unmatched"] == 9


def test_blocks_share_one_compiled_function():
    query, gallery, query_ids, gallery_ids = _random_problem(8, 41, 83)
    retrieval_metrics(query, gallery, query_ids, gallery_ids, block_size=16)
    before = [f._cache_size() for f in (counting.similarity, counting._add_at_least)]
    retrieval_metrics(query, gallery, query_ids, gallery_ids, block_size=16)
    query, gallery, query_ids, gallery_ids = _random_problem(9, 42, 90)
    retrieval_metrics(query, gallery, query_ids, gallery_ids, block_size=16)
    assert [f._cache_size() for f in (counting.similarity, counting._add_at_least)] == before


def test_clear_errors():
    some, none, ids = np.ones((2, 3)), np.ones((0, 3)), np.arange(2)
    with pytest.raises(ValueError, match="gallery holds no embedding"):
        retrieval_metrics(some, none, ids, ids[:0])
    with pytest.raises(ValueError, match="query holds no embedding"):
        retrieval_metrics(none, some, ids[:0], ids)
    with pytest.raises(ValueError, match="query_ids is"):
        retrieval_metrics(some, some, ids[:1], ids)
    with pytest.raises(ValueError, match="block_size is 0"):
        retrieval_metrics(some, some, ids, ids, block_size=0)
    with pytest.raises(ValueError, match="k is 0"):
        top_matches(some, some, k=0)
    for bad in (np.nan, np.inf):
        for scored in (retrieval_metrics, both_directions):
            with pytest.raises(ValueError, match="not finite"):
                scored(some * bad, some, ids, ids)
        with pytest.raises(ValueError, match="not finite"):
            top_matches(some, some * bad)


# --- both directions ---


def _assert_same(found, expected):
    """Each query's scores to the bit, and what is not of a query."""
    for ours, alone in zip(found, expected, strict=True):
        for name, values in ours.per_query().items():
            np.testing.assert_array_equal(values, alone.per_query()[name], err_msg=name)
        assert ours.summary() == alone.summary()


def _each_alone(query, gallery, query_ids, gallery_ids, **options):
    return (
        retrieval_metrics(query, gallery, query_ids, gallery_ids, **options),
        retrieval_metrics(gallery, query, gallery_ids, query_ids, **options),
    )


@pytest.mark.parametrize("model", [None, 2], ids=["one device", "eight devices"])
@pytest.mark.parametrize(
    ("num_queries", "num_gallery", "block_size"),
    [(37, 53, 10), (53, 37, 16), (37, 53, 1000), (1, 53, 16), (37, 1, 16), (5, 4, 1)],
)
def test_both_directions_equal_each_alone(num_queries, num_gallery, block_size, model):
    problem = _random_problem(4, num_queries, num_gallery)
    mesh = model and sharding.make_mesh(model)
    expected = _each_alone(*problem, ks=(1, 7))
    found = both_directions(*problem, ks=(1, 7), block_size=block_size, mesh=mesh)
    _assert_same(found, expected)
    if min(num_queries, num_gallery) > 5:
        # The two directions differ, some identities are on one side only, and there are ties.
        assert found[0].summary()["num_unmatched"] > 0
        assert np.any(found[0].first_rank[:37] != found[1].first_rank[:37])
        assert len(np.unique(problem[0] @ problem[1].T)) < 37


@pytest.mark.parametrize("model", [1, 8])
def test_devices_rank_real_numbers_as_one_does(model):
    rng = np.random.default_rng(7)
    query = rng.normal(size=(45, 64)).astype(np.float32)
    gallery = rng.normal(size=(37, 64)).astype(np.float32)
    gallery[20:25] = gallery[3]  # equal embeddings, some right and some wrong, on other devices
    ids = rng.integers(0, 6, 45), rng.integers(0, 6, 37)
    expected = _each_alone(query, gallery, *ids)
    mesh = sharding.make_mesh(model)
    _assert_same(both_directions(query, gallery, *ids, mesh=mesh, block_size=20), expected)
    on_devices = jax.device_put(query, sharding.replicated(mesh)), jnp.asarray(gallery)
    _assert_same(both_directions(*on_devices, *ids, mesh=mesh), expected)
    _assert_same(_each_alone(query, gallery, *ids, mesh=mesh, block_size=20), expected)


def test_all_of_one_identity_in_both_directions():
    query, gallery, _, _ = _random_problem(3)
    ids = np.zeros(37, int), np.zeros(53, int)
    for scores in both_directions(query, gallery, *ids):
        assert {scores.summary()[name] for name in KEYS} == {100.0}


@pytest.mark.parametrize("block_size", [3, 16, 1024])
def test_constant_similarity_scores_nothing_in_both_directions(block_size):
    embedding = np.random.default_rng(0).normal(size=(1, 100))
    constant = np.repeat(embedding, 200, axis=0)
    there, back = both_directions(
        constant, constant[:150], np.arange(200), np.arange(150), block_size=block_size
    )
    assert (there.first_rank[:150] == 150).all()
    assert (there.first_rank[150:] == 0).all()
    assert (back.first_rank == 200).all()


def test_one_product_where_it_can_be_held(monkeypatch):
    query, gallery, *ids = _random_problem(4, 48, 32)
    pairs = []

    def similarity(rows, items):
        pairs.append(len(rows) * len(items))
        return found(rows, items)

    found = counting.similarity
    monkeypatch.setattr(counting, "similarity", similarity)
    held = 4 * 32 * (3 + 48)  # of the smaller side, 3 wide, and of all pairs
    once = both_directions(query, gallery, *ids, block_size=16, hold_bytes=held)
    assert sum(pairs) == 48 * 32
    pairs.clear()
    twice = both_directions(query, gallery, *ids, block_size=16, hold_bytes=held - 1)
    assert sum(pairs) == 2 * 48 * 32
    _assert_same(once, twice)
    pairs.clear()
    mesh = sharding.make_mesh()
    shared = both_directions(query, gallery, *ids, mesh=mesh, hold_bytes=held // 8)
    assert sum(pairs) == 48 * 32
    _assert_same(shared, twice)


def test_blocks_of_many_rows_are_narrow(monkeypatch):
    problem = _random_problem(4)
    expected = both_directions(*problem)
    widths = []

    def similarity(rows, items):
        widths.append(len(items))
        return found(rows, items)

    found = counting.similarity
    monkeypatch.setattr(counting, "similarity", similarity)
    monkeypatch.setattr(counting, "_FEWEST_COLUMNS", 2)
    monkeypatch.setattr(counting, "_CACHED_PAIRS", 37 * 10)
    _assert_same(both_directions(*problem), expected)
    assert max(widths) <= 10
    widths.clear()
    both_directions(*problem, block_size=4)
    assert max(widths) <= 4


def test_similarities_stay_where_they_were_computed():
    mesh = sharding.make_mesh(2)
    rows = jax.device_put(np.ones((32, 4), np.float32), sharding.by_batch(mesh))
    items = jax.device_put(np.ones((16, 4), np.float32), sharding.replicated(mesh))
    block, _ = counting.similarity(rows, items)
    assert {shard.data.shape for shard in block.addressable_shards} == {(4, 16)}
    matches, real = np.zeros((16, 2), np.int32), np.ones(32, bool)
    program = counting._wrong_in_block.lower(block, matches, real).compile().as_text()
    assert "all-reduce" in program  # of the counts
    assert "all-gather" not in program
    assert "all-to-all" not in program


@pytest.mark.parametrize("k", [1, 4, 53, 100])
def test_top_matches_equal_a_stable_sort(k):
    query, gallery, _, _ = _random_problem(3)
    similarity = query @ gallery.T
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    for block_size in (1, 10, 1000):
        index, values = top_matches(query, gallery, k, block_size)
        np.testing.assert_array_equal(index, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(similarity, expected, axis=1))
    index, _ = top_matches(jnp.asarray(query), jnp.asarray(gallery), k, 16)
    np.testing.assert_array_equal(index, expected)
