"""Encoders written for serving compute what the run computes, and nothing wrong is left behind."""

import functools
import json
import os
import re
import string
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from configs import axm_net
from jaxreid import export, retrieval
from tests.jaxreid import tiny, tiny_runs

pytestmark = pytest.mark.usefixtures("compile_fast")

SLOW_AXM = pytest.param("axm", marks=pytest.mark.slow)
SENTENCES = ["A woman in a red coat, with an unheard-of hat.", "", "he wears blue jeans"]


def _config(network):
    if network.startswith("axm"):
        config = axm_net.get_config("quickstart,runlocal")
        config.model.context = "joint" if network == "axm-joint" else "shared"
        config.model.update(channels=(8, 16, 16, 32), blocks=1)
    else:
        config = tiny.config()
        config.model.formulation = "released" if network == "ssan-released" else "paper"
        config.dtype = "bfloat16" if network == "ssan-bfloat16" else "float32"
        config.data.unknown = "drop" if network == "ssan-drop" else "unk"
    return config


@pytest.fixture(scope="module")
def make_run(tiny_data_dir, tmp_path_factory):
    """Makes the folder of a tiny run with parameters drawn at random, once a network."""
    base = tmp_path_factory.mktemp("export")

    def make(network):
        if not (base / network).exists():
            config = _config(network)
            config.data.update(
                name="synth_pedes/tiny", data_dir=str(tiny_data_dir), cache_dir=str(base / "cache")
            )
            tiny_runs.make_run(config, base / network)
        return base / network

    return make


@pytest.fixture(scope="module")
def write(make_run, tmp_path_factory):
    """Writes the encoders of a tiny run as StableHLO, once a network; returns what was said."""
    base = tmp_path_factory.mktemp("written")

    @functools.cache
    def write(network):
        folder = base / network / "served"
        return export.export_run(make_run(network), folder, to="stablehlo", checkpoint="last")

    return write


@pytest.fixture
def written(write):
    return write("ssan")


@pytest.fixture
def quick(monkeypatch):
    """Has encoders stand for what was written of them, moved by so much where it says so."""
    shift = {"image": 0.0, "text": 0.0}

    def write(encoders, variables, folder, platforms):
        def served(modality, *inputs):
            return jax.jit(encoders[modality].run)(variables, *inputs) + shift[modality]

        (folder / "program").touch()
        return {modality: functools.partial(served, modality) for modality in encoders}

    monkeypatch.setattr(export, "_write_stablehlo", write)
    return shift


def _load(folder, modality):
    data = (folder / export.FILES[modality]).read_bytes()
    return jax_export.deserialize(bytearray(data))


def _images(run, count, seed=5):
    size = (count, *run.config.data.image_size, 3)
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def _assert_same(theirs, ours):
    # Sums of float32 in the other order of another compilation: units of the last place.
    np.testing.assert_allclose(theirs, ours, atol=2e-6)


# --- what is written ---


def test_the_folder_and_what_is_said_of_it(written):
    names = {path.name for path in written.folder.iterdir()}
    assert names == {*export.FILES.values(), "vocabulary.json", "export.json", "README.txt"}
    assert [path.name for path in written.folder.parent.iterdir()] == ["served"]
    assert (written.step, written.checked_on, written.to) == (3, "cpu", "stablehlo")
    assert set(written.distances) == {"image", "text"}
    assert 0 <= max(written.distances.values()) < 1e-5 < written.tolerance
    assert re.match(r"Wrote step 3 to .*/served for cpu, cuda, tpu\. On cpu, ", written.summary())


def test_the_description_is_that_of_the_programs(written, make_run):
    facts = json.loads((written.folder / "export.json").read_text())
    run = retrieval.load_run(make_run("ssan"), which="last")
    assert facts["run"] == {
        **{"network": "ssan", "dtype": "float32"},
        **{"checkpoint": "last", "step": 3},
    }
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["checked"]["largest_distance"] == written.distances
    assert facts["encoders"]["image"]["resize"] == run.config.data.resize
    for modality, described in facts["encoders"].items():
        program = _load(written.folder, modality)
        assert described["file"] == export.FILES[modality]
        assert program.platforms == tuple(facts["platforms"]) == ("cpu", "cuda", "tpu")
        assert program.nr_devices == 1  # although the run lies on all devices
        for aval, wanted in zip(program.in_avals, described["inputs"].values(), strict=True):
            assert (aval.dtype.name, [str(n) for n in aval.shape]) == (
                wanted["dtype"],
                [str(n) for n in wanted["shape"]],
            )
        (output,) = program.out_avals
        assert [str(n) for n in output.shape] == [str(n) for n in described["output"]["shape"]]
        assert output.dtype.name == described["output"]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("modality", "modules"),
    [
        ("image", {"backbone", "heads"}),
        ("text", {"embedding", "lstm", "word_attention", "heads"}),
    ],
)
def test_the_weights_are_inside_and_no_others(written, make_run, modality, modules):
    run = retrieval.load_run(make_run("ssan"), which="last")
    program = (written.folder / export.FILES[modality]).read_bytes()
    there, absent = set(), set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.variables):
        found = np.asarray(leaf).tobytes() in program
        (there if found else absent).add(path[1].key)
    assert there == modules
    assert not absent & modules
    assert {name for name in absent if name.startswith("classifier")}


# --- numbers ---


@pytest.mark.parametrize("network", ["ssan", "ssan-released", SLOW_AXM])
def test_any_number_of_rows(make_run, write, network):
    folder = write(network).folder
    run = retrieval.load_run(make_run(network), which="last")
    encode_image, encode_text = (jax.jit(_load(folder, m).call) for m in ("image", "text"))
    # 5 and 6 rows are none of the sizes at which the writer looked.
    images = _images(run, 5)
    _assert_same(encode_image(images), run.embed_images(images))
    sentences = [*SENTENCES, *reversed(SENTENCES)]
    captions = run.vocabulary.encode(sentences, run.config.data.max_tokens)[:2]
    _assert_same(encode_text(*captions), run.embed_sentences(sentences))


@pytest.mark.slow
def test_bfloat16(write, make_run):
    done = write("ssan-bfloat16")
    run = retrieval.load_run(make_run("ssan-bfloat16"), which="last")
    assert json.loads((done.folder / "export.json").read_text())["run"]["dtype"] == "bfloat16"
    assert max(done.distances.values()) <= done.tolerance
    tokens, lengths, _ = run.vocabulary.encode(SENTENCES, run.config.data.max_tokens)
    found = _load(done.folder, "text").call(tokens, lengths)
    # 8 bits: 4e-3 of a value, and the values of a branch of length 1 lie below 1.
    np.testing.assert_allclose(found, run.embed_sentences(SENTENCES), atol=1e-2)


def _assert_the_readme_works(folder, run, others, tmp_path):
    """Runs the program in README.txt in a fresh process, with other images and more sentences."""
    images = _images(run, 3)
    np.save(tmp_path / "images.npy", images)
    page = (folder / "README.txt").read_text()
    code = textwrap.dedent("".join(re.findall(r"^(?: {4}.*)?\n", page, re.MULTILINE)))
    changes = {
        "np.zeros((3, 96, 32, 3), np.uint8)": f"np.load({str(tmp_path / 'images.npy')!r})",
        'sentences = ["A woman in a red coat."': f"sentences = [*{SENTENCES!r}",
    }
    for before, after in changes.items():
        assert before in code
        code = code.replace(before, after)
    code += f"""
import sys
there = sorted({others!r} & set(sys.modules))
print(json.dumps([similarity.tolist(), there]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    similarity, there = json.loads(done.stdout)
    assert not there
    sentences = [*SENTENCES, "He wears a dark jacket and carries a bag."]
    expected = run.embed_sentences(sentences) @ run.embed_images(images).T
    # Each similarity is a sum of three cosines; only this side skips XLA's optimisations.
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 1e-3  # the sentences do not all say the same


def test_the_readme_works_with_jax_alone(written, make_run, tmp_path):
    run = retrieval.load_run(make_run("ssan"), which="last")
    others = {"jaxreid", "flax", "tensorflow"}
    _assert_the_readme_works(written.folder, run, others, tmp_path)


@pytest.mark.usefixtures("quick")
def test_the_readme_leaves_unknown_words_out_where_the_run_does(make_run, tmp_path, monkeypatch):
    export.export_run(make_run("ssan-drop"), tmp_path / "out", to="stablehlo", checkpoint="last")
    page = (tmp_path / "out" / "README.txt").read_text()
    code = page[page.index('    with open("vocab') : page.index("    sentences = [")]
    monkeypatch.chdir(tmp_path / "out")
    names = {"json": json, "string": string, "np": np}
    exec(textwrap.dedent(code), names)
    run = retrieval.load_run(make_run("ssan-drop"), which="last")
    sentences = [*SENTENCES, " a wòman, IN RED\n" * 9]
    tokens, lengths, report = run.vocabulary.encode(sentences, run.config.data.max_tokens)
    assert report.unknown_words
    assert report.truncated
    found = names["tokenise"](sentences)
    np.testing.assert_array_equal(found[0], tokens)
    np.testing.assert_array_equal(found[1], lengths)


# --- refusals ---


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"to": "onnx"}, r"--to is 'onnx'; it takes stablehlo or saved\."),
        ({"platforms": ("cpu", "gpu")}, r"'cpu,gpu'; it takes one or more of cpu, cuda, rocm, tpu"),
        ({"platforms": ()}, r"--platforms is ''"),
        ({"platforms": ("cpu", "cpu")}, r"each once"),
        ({"platforms": ("tpu",)}, r"on cpu, where this process computes: add cpu\."),
        ({"checkpoint": "best"}, r"has no 'best' checkpoint"),
        ({"out": "s3://bucket/out"}, r"--out is 's3://bucket/out'; it takes a local path or gs://"),
    ],
)
def test_requests_that_cannot_be_met(make_run, tmp_path, changed, message):
    request = {"out": tmp_path / "out", "to": "stablehlo", "checkpoint": "last", **changed}
    with pytest.raises(ValueError, match=message):
        export.export_run(make_run("ssan"), **request)
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_a_bucket_takes_an_export_that_was_compared(make_run, bucket):
    request = {"to": "stablehlo", "checkpoint": "last"}
    done = export.export_run(make_run("ssan"), "gs://bucket/served", **request)
    assert str(done.folder) == "gs://bucket/served"
    names = {"program", "vocabulary.json", "export.json", "README.txt"}
    assert bucket.below("") == sorted(f"served/{name}" for name in names)
    with pytest.raises(ValueError, match="'gs://bucket/served' is there already and not empty"):
        export.export_run(make_run("ssan"), "gs://bucket/served", **request)


def test_nothing_is_written_over(make_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    for out in (tmp_path / "out", tmp_path / "out" / "mine.txt"):
        with pytest.raises(ValueError, match="is there already and not empty: name a new folder"):
            export.export_run(make_run("ssan"), out, to="stablehlo", checkpoint="last")
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


@pytest.mark.usefixtures("quick")
def test_an_empty_folder_is_filled_and_stays_open_to_others(make_run, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    mode = folder.stat().st_mode
    export.export_run(make_run("ssan"), folder, to="stablehlo", checkpoint="last")
    assert (folder / "program").exists()
    assert (folder / "export.json").exists()
    assert folder.stat().st_mode == mode


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("shift", [1e-4, np.nan])
def test_what_computes_something_else_is_not_kept(make_run, tmp_path, quick, modality, shift):
    quick[modality] = shift  # of each of 168 values: 1.3e-3 in all
    with pytest.raises(ValueError, match=f"encode_{modality} as written lies .* nothing was kept"):
        export.export_run(
            make_run("ssan"), tmp_path / "a" / "out", to="stablehlo", checkpoint="last"
        )
    assert not any((tmp_path / "a").iterdir())


def test_a_joint_context_encodes_no_modality_alone(make_run, tmp_path):
    with pytest.raises(ValueError, match=r"context='joint' scales .* vision alone cannot be"):
        export.export_run(
            make_run("axm-joint"), tmp_path / "a" / "out", to="stablehlo", checkpoint="last"
        )
    assert not any((tmp_path / "a").iterdir())


def test_a_network_that_asks_for_a_number_of_rows(make_run, tmp_path, monkeypatch):
    def fixed(run):
        def encode(variables, images):
            return jnp.zeros((int(images.shape[0]), 4))

        return {**right(run), "image": export.Encoder(encode, right(run)["image"].inputs)}

    right = export._encoders
    monkeypatch.setattr(export, "_encoders", fixed)
    with pytest.raises(ValueError, match=r"encoders of 'axm_net' cannot be exported .* Symbolic"):
        export.export_run(make_run("axm"), tmp_path / "out", to="stablehlo", checkpoint="last")
    assert not any(tmp_path.iterdir())


# --- SavedModel ---


def test_without_tensorflow_the_extra_is_named(make_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxreid\[tf\]'"):
        export.export_run(make_run("axm"), tmp_path / "out", to="saved")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("network", ["ssan", "ssan-released", "axm"])
@pytest.mark.filterwarnings("default")  # TensorFlow warns of its own affairs
def test_saved_model(make_run, tmp_path, network):
    tf = pytest.importorskip("tensorflow")
    done = export.export_run(make_run(network), tmp_path / "out", to="saved", checkpoint="last")
    assert max(done.distances.values()) < 1e-5
    run = retrieval.load_run(make_run(network), which="last")
    loaded = tf.saved_model.load(str(done.folder))
    images = _images(run, 5)
    found = loaded.signatures["encode_image"](images=tf.constant(images))["embedding"]
    _assert_same(found.numpy(), run.embed_images(images))
    tokens, lengths, _ = run.vocabulary.encode(SENTENCES, run.config.data.max_tokens)
    found = loaded.signatures["encode_text"](
        tokens=tf.constant(tokens), lengths=tf.constant(lengths)
    )["embedding"]
    _assert_same(found.numpy(), run.embed_sentences(SENTENCES))
    facts = json.loads((done.folder / "export.json").read_text())
    assert facts["encoders"]["text"]["signature"] == "encode_text"
    assert facts["versions"]["tensorflow"] == tf.__version__
    stored = {name for name, _ in tf.train.list_variables(str(done.folder / "variables/variables"))}
    assert any("lstm" in name or "text" in name for name in stored)
    assert not any("classifier" in name for name in stored)
    if network == "ssan":
        _assert_the_readme_works(done.folder, run, {"jaxreid", "flax"}, tmp_path)
