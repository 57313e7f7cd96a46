"""A loaded run embeds images and sentences, any number of them."""

import numpy as np
import pytest

from jaxreid import retrieval

pytestmark = pytest.mark.usefixtures("compile_fast")


@pytest.fixture(scope="module")
def run(run_folder):
    return retrieval.load_run(run_folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 96, 32, 3), np.uint8)


def test_the_folder_says_what_was_loaded(run, run_folder):
    assert (run.step, run.which, run.workdir) == (3, "best", run_folder)
    assert len(run.classes) == 16
    assert run.classes[0] == "synth_pedes/tiny:0"


def test_three_unit_vectors_side_by_side(run, images):
    embedded = run.embed_images(images)
    model = run.config.model
    widths = [model.global_dim, 6 * model.global_dim, 6 * model.relation_dim]
    assert embedded.shape == (20, sum(widths))
    assert embedded.dtype == np.float32
    for branch in np.split(embedded, np.cumsum(widths)[:-1], axis=1):
        np.testing.assert_allclose(np.linalg.norm(branch, axis=1), 1, rtol=1e-5)


def test_company_and_order_do_not_matter(run, images):
    whole = run.embed_images(images)
    # Other rows share the products; float32 sums may end a few units of the last place apart.
    np.testing.assert_allclose(run.embed_images(images[3:4]), whole[3:4], atol=1e-6)
    sentences = ["a red coat", "a man with blue jeans and a black bag on his back", "", "shoes"]
    whole = run.embed_sentences(sentences)
    np.testing.assert_allclose(run.embed_sentences(sentences[::-1]), whole[::-1], atol=1e-6)
    assert np.isfinite(whole).all()
    assert not np.allclose(whole[0], whole[1])


def test_nothing_in_nothing_out(run, images):
    assert len(run.embed_images(images[:0])) == 0
    assert len(run.embed_sentences([])) == 0


def test_other_pixels_are_refused(run, images):
    for wrong in (images[:, :48], images.astype(np.float32) / 255, images[..., :1]):
        with pytest.raises(ValueError, match=r"takes uint8 RGB of shape \[N, 96, 32, 3\]"):
            run.embed_images(wrong)


def test_other_outputs_come_in_blocks(run, images):
    found = run.encoder.image_outputs(run.variables, images, "map", "part_map")
    assert set(found) == {"map"}  # the network has no other
    assert found["map"].dtype == np.float32
    assert found["map"].shape[::3] == (20, 32)  # more images than go into one block of 16
    alone = run.encoder.image_outputs(run.variables, images[17:18], "map", "part_map")
    np.testing.assert_allclose(alone["map"], found["map"][17:18], atol=1e-5)
    assert run.encoder.image_outputs(run.variables, images[:0], "map", "part_map") == {}


def test_word_scores_of_captions_of_any_length(run):
    sentences = ["a man", *["a woman"] * 16, "a man with a red coat and blue jeans"]
    tokens, lengths, _ = run.vocabulary.encode(sentences, 40)
    scores = run.encoder.word_scores(run.variables, tokens, lengths)
    assert scores.shape == (18, 40, 6)
    assert not scores[np.arange(40)[None] >= lengths[:, None]].any()
    assert (scores[0, :2] > 0).all()
    np.testing.assert_allclose(scores[2:17], scores[1:16], atol=1e-6)
    assert run.encoder.caption_outputs(run.variables, tokens, lengths, "phrases") == {}
