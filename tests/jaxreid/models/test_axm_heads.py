"""Strips that scale themselves, feature drop, non-local attention: against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid.models.axm_heads import FC, NonLocal, PartBranch

X = np.random.default_rng(0).normal(size=(2, 6, 4, 32)).astype(np.float32)


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def random_like(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gate(params, x):
    hidden = np.maximum(x @ params["fc1"]["kernel"] + params["fc1"]["bias"], 0)
    return sigmoid(hidden @ params["fc2"]["kernel"] + params["fc2"]["bias"])


@pytest.mark.parametrize("network", ["shared", "separate"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_each_strip_is_scaled_by_its_own_mean(network, pooling):
    branch = PartBranch(num_parts=3, network=network, pooling=pooling)
    params = random_like(branch.init(jax.random.key(0), jnp.asarray(X), train=False)["params"])
    pooled, attended = branch.apply({"params": params}, jnp.asarray(X), train=False)
    wanted = np.empty_like(X)
    for part in range(3):
        strip = X[:, 2 * part : 2 * part + 2]
        name = "strip" if network == "shared" else f"strip{part + 1}"
        scale = gate(jax.tree.map(np.asarray, params[name]), strip.mean((1, 2)))
        wanted[:, 2 * part : 2 * part + 2] = strip * scale[:, None, None]
    # float32: sums of 32 products.
    np.testing.assert_allclose(attended, wanted, rtol=1e-4, atol=1e-5)
    over = wanted.max((1, 2)) if pooling == "max" else wanted.mean((1, 2))
    np.testing.assert_allclose(pooled, over, rtol=1e-4, atol=1e-5)


def test_how_much_the_small_networks_narrow_is_a_field():
    x = jnp.asarray(X)
    branch = PartBranch(num_parts=3, reduction=4).init(jax.random.key(0), x, train=False)
    assert branch["params"]["strip"]["fc1"]["kernel"].shape == (X.shape[-1], X.shape[-1] // 4)
    layer = NonLocal(reduction=4).init(jax.random.key(0), x[:, :, 0], True)
    assert layer["params"]["theta"]["kernel"].shape == (X.shape[-1], X.shape[-1] // 4)


def test_strips_must_divide_the_rows():
    with pytest.raises(ValueError, match="num_parts=4 does not divide the 6 rows"):
        PartBranch(num_parts=4).init(jax.random.key(0), jnp.asarray(X), train=False)


@pytest.mark.parametrize(("drop", "positions"), [("part", 2 * 4), ("random", 2 * 2)])
def test_feature_drop_blanks_in_training_only(drop, positions):
    branch = PartBranch(num_parts=3, pooling="average", feature_drop=drop)
    ones = jnp.ones((64, 6, 4, 8))
    params = branch.init(jax.random.key(0), ones, train=False)["params"]

    def pooled(train, seed=0):
        rngs = {"dropout": jax.random.key(seed)} if train else None
        return branch.apply({"params": params}, ones, train=train, rngs=rngs)[0]

    whole = pooled(False)
    np.testing.assert_allclose(pooled(True) / whole, 1 - positions / 24, rtol=1e-6)


def test_feature_drop_reaches_every_part_and_differs_between_images():
    branch = PartBranch(num_parts=3, pooling="max", feature_drop="part")
    # Row r of the map has the value r + 1, so the maximum tells whether the last strip was blanked.
    rows = jnp.broadcast_to(jnp.arange(1.0, 7.0).reshape(1, 6, 1, 1), (64, 6, 4, 8))
    params = jax.tree.map(
        jnp.zeros_like, branch.init(jax.random.key(0), rows, train=False)["params"]
    )
    rngs = {"dropout": jax.random.key(5)}
    top = branch.apply({"params": params}, rows, train=True, rngs=rngs)[0][:, 0] * 2
    values, counts = np.unique(np.asarray(top), return_counts=True)
    assert values.tolist() == [4.0, 6.0]
    assert 10 <= counts[0] <= 33  # a third of 64 on average


def test_non_local_attention_by_its_formula():
    layer = NonLocal()
    x = jnp.asarray(X[:, :, 0])
    start = layer.init(jax.random.key(0), x, True)
    params = random_like(start["params"])
    stats = {"bn": {"mean": jnp.full((32,), 0.25), "var": jnp.full((32,), 4.0)}}
    mask = jnp.asarray([[True] * 4 + [False] * 2, [True] * 6])
    out, weights = layer.apply({"params": params, "batch_stats": stats}, x, True, mask)
    p = jax.tree.map(np.asarray, params)
    theta, phi, g = (
        np.asarray(x) @ p[name]["kernel"] + p[name]["bias"] for name in ("theta", "phi", "g")
    )
    affinity = np.einsum("bic,bjc->bij", theta, phi)
    affinity = np.where(np.asarray(mask)[:, None], affinity, -np.inf)
    wanted = np.exp(affinity - affinity.max(2, keepdims=True))
    wanted /= wanted.sum(2, keepdims=True)
    np.testing.assert_allclose(weights, wanted, atol=1e-5)
    y = np.einsum("bij,bjc->bic", wanted, g) @ p["output"]["kernel"] + p["output"]["bias"]
    y = (y - 0.25) / np.sqrt(4.0 + 1e-5) * p["bn"]["scale"] + p["bn"]["bias"]
    np.testing.assert_allclose(out, np.asarray(x) + y, rtol=2e-4, atol=2e-4)


def test_dense_layers_end_in_relu_of_a_normalised_product():
    layer = FC(features=5, layers=2)
    x = jnp.asarray(X[:, 0, 0])
    start = layer.init(jax.random.key(0), x, True)
    assert set(start["params"]) == {"fc1", "bn1", "fc2", "bn2"}
    params = random_like(start["params"])
    plain = jax.tree.map(np.asarray, params)
    found = layer.apply({"params": params, "batch_stats": start["batch_stats"]}, x, True)
    y = np.asarray(x)
    for index in ("1", "2"):
        dense, norm = plain[f"fc{index}"], plain[f"bn{index}"]
        y = (y @ dense["kernel"] + dense["bias"]) / np.sqrt(1 + 1e-5)
        y = np.maximum(y * norm["scale"] + norm["bias"], 0)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
