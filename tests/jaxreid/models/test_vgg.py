"""VGG: shapes and recomputation."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreid.models.vgg import VGG


def test_vgg16_map():
    model = VGG()
    images = jax.ShapeDtypeStruct((2, 384, 128, 3), jnp.float32)
    (final, outputs), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert final.shape == (2, 12, 4, 512)
    assert model.out_features == 512
    assert [x.shape[-1] for x in outputs.values()] == [64, 128, 256, 512, 512]
    kernels = [x for x in jax.tree.leaves(variables["params"]) if x.ndim == 4]
    assert len(kernels) == 13
    assert "batch_stats" not in variables


def test_small_vgg_in_bfloat16_with_recomputation():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 8, 3)), jnp.float32)
    plain = VGG(stage_sizes=(1, 1), width=4)
    params = plain.init(jax.random.key(0), images)

    def total(params, model):
        return jnp.sum(jnp.square(model.apply(params, images)[0].astype(jnp.float32)))

    expected = jax.grad(total)(params, plain)
    again = jax.grad(total)(params, VGG(stage_sizes=(1, 1), width=4, remat=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), again, expected)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        final, _ = VGG(stage_sizes=(1, 1), width=4, dtype=jnp.bfloat16).apply(params, images)
    assert final.shape == (2, 4, 2, 8)
    assert final.dtype == jnp.bfloat16
