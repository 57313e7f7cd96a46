"""Checkpoints of torch as run folders, and runs as files of torch weights."""

import copy
import functools
import json
import pathlib
import pickle
import re

import jax
import numpy as np
import pytest

from jaxreid import (
    cli,
    convert,
    evaluate,
    pretrained,
    registry,
    retrieval,
    step,
    torch_names,
    weight_files,
    weight_sources,
)
from tests.jaxreid import tiny, tiny_runs
from tests.jaxreid.test_torch_names import drawn

WORDS = ("a", "red", "shirt", "blue", "bag")
ROWS = 8  # rows 6 and 7 have no word
RELEASED = {"network", "WL", "WN", "epoch"}


@pytest.fixture(scope="module")
def config():
    """The smallest network of the released formulation."""
    return tiny.config("quickstart,runlocal,released")


@pytest.fixture(scope="module")
def tensors(config):
    """A network's weights under the released program's names, no two alike."""
    model = registry.build_model(config, vocab_size=ROWS, num_classes=9)
    shapes = jax.eval_shape(functools.partial(step.init_variables, config, model))
    variables = jax.tree.map(np.abs, drawn(shapes))  # a variance is never negative
    return pretrained.to_torch(torch_names.network(model, variables), variables, 17)


@pytest.fixture(scope="module")
def released(tensors):
    """What the released program saves: no classifier of the global branch."""
    return {name: x for name, x in tensors.items() if not name.startswith("W.")}


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


@pytest.fixture
def run(released, config, words, tmp_path):
    """A converted run: its folder, and what was said of it."""
    path = tmp_path / "best.npz"
    weight_files.write(path, released, field="--out")
    workdir = tmp_path / "run"
    return workdir, convert.convert_run(str(path), config, workdir, vocabulary=str(words))


def test_a_checkpoint_becomes_a_run_that_searches(run, released):
    workdir, found = run
    assert (found.num_words, found.num_classes) == (len(WORDS), 9)
    assert set(found.report.kept) == {
        "params/classifier_global/kernel",
        "params/classifier_global/bias",
    }
    assert all("does not save" in reason for reason in found.report.kept.values())
    loaded = retrieval.load_run(workdir)
    assert (loaded.step, len(loaded.classes)) == (0, 9)
    assert loaded.vocabulary.words[:5] == WORDS
    assert loaded.vocabulary.unknown == "drop"
    kernel = loaded.variables["params"]["backbone"]["stem_conv"]["kernel"]
    assert np.array_equal(
        np.asarray(kernel).transpose(3, 2, 0, 1), released["ImageExtract.0.weight"]
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 32, 3), np.uint8)
    sentences = ["A red shirt.", "a blue bag", "nothing known"]
    similarity = loaded.embed_sentences(sentences) @ loaded.embed_images(images).T
    assert similarity.shape == (3, 2)
    assert np.isfinite(similarity).all()
    # The rows that no word has cannot be asked for.
    nothing = loaded.embed_sentences(["unused row 6", ""])
    assert np.array_equal(nothing[0], nothing[1])


def test_torch_gets_back_every_tensor_bit_for_bit(run, released, tmp_path):
    workdir, _ = run
    out, count = convert.export_torch(workdir, tmp_path / "back.safetensors")
    back = weight_files.read(out, field="--out").tensors
    assert count == len(back) == len(released)
    for name, tensor in released.items():
        assert back[name].dtype == tensor.dtype
        assert np.array_equal(back[name], tensor), name
    vocabulary = json.loads((tmp_path / "back_vocabulary.json").read_text())
    assert vocabulary["words"][:5] == list(WORDS)


def test_the_released_program_gets_its_own_file_layout(run, released, config, tmp_path):
    torch = pytest.importorskip("torch")
    workdir, _ = run
    out, _ = convert.export_torch(workdir, tmp_path / "best.pth.tar")
    saved = torch.load(out, weights_only=True)
    assert saved.keys() == RELEASED
    assert "ImageExtract.0.weight" in saved["network"]
    assert "W.0.block.weight" in saved["WL"]
    names = tmp_path / "best_vocabulary.json"
    again = convert.convert_run(str(out), config, tmp_path / "again", vocabulary=str(names))
    assert again.num_words == len(WORDS)
    back, _ = convert.export_torch(tmp_path / "again", tmp_path / "again.npz")
    tensors = weight_files.read(back, field="--out").tensors
    assert tensors.keys() == released.keys()
    assert all(np.array_equal(tensors[name], released[name]) for name in released)


def test_the_backbone_alone_by_its_own_names(run, released, tmp_path):
    workdir, _ = run
    out, _ = convert.export_torch(workdir, tmp_path / "resnet.npz", backbone=True)
    back = weight_files.read(out, field="--out").tensors
    assert np.array_equal(back["conv1.weight"], released["ImageExtract.0.weight"])
    assert np.array_equal(
        back["layer2.0.bn1.running_mean"], released["ImageExtract.5.0.bn1.running_mean"]
    )
    assert int(back["bn1.num_batches_tracked"]) == 17
    assert not (tmp_path / "resnet_vocabulary.json").exists()


def test_a_trained_run_counts_its_steps_and_has_all_classifiers(tensors, config, words, tmp_path):
    weight_files.write(tmp_path / "whole.npz", tensors, field="--out")
    source, workdir = str(tmp_path / "whole.npz"), tmp_path / "run"
    found = convert.convert_run(source, config, workdir, vocabulary=str(words))
    assert not found.report.kept
    variables = retrieval.load_run(workdir).variables
    tiny_runs.save(workdir, variables, step=3, score=1.0)  # as if it had been trained
    out, count = convert.export_torch(workdir, tmp_path / "trained.npz")
    back = weight_files.read(out, field="--out").tensors
    assert int(back["ImageExtract.1.num_batches_tracked"]) == 3
    assert count == len(tensors)
    assert np.array_equal(back["W.W.0.block.weight"], tensors["W.W.0.block.weight"])


def test_nothing_is_written_over(run, config, words, tmp_path):
    workdir, _ = run
    with pytest.raises(ValueError, match="holds a run already"):
        convert.convert_run(str(tmp_path / "best.npz"), config, workdir, vocabulary=str(words))
    with pytest.raises(ValueError, match=r"--out .*best\.npz' exists"):
        convert.export_torch(workdir, tmp_path / "best.npz")
    with pytest.raises(ValueError, match=r"--to .*best\.npz' exists"):
        convert.convert_file(str(tmp_path / "best.npz"), tmp_path / "best.npz")
    with pytest.raises(ValueError, match=r"--out is .*; it takes a file of one of"):
        convert.export_torch(workdir, tmp_path / "weights.h5")
    (tmp_path / "mine_vocabulary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"comes with mine_vocabulary\.json, which exists"):
        convert.export_torch(workdir, tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {n: x for n, x in t.items() if "lstm" not in n}, "4 missing"),
        (lambda t: t | {"extra.weight": np.ones(3, np.float32)}, r"1 unexpected\n      extra"),
        (
            lambda t: t | {"conv_global.block.0.weight": np.ones((3, 3, 1, 1), np.float32)},
            r"1 wrong shape\n      conv_global\.block\.0\.weight \(3, 3, 1, 1\) there, \(16",
        ),
        (
            lambda t: {"conv1.weight": t["ImageExtract.0.weight"]},
            "no word table of ssan: its tensors begin with conv1.weight",
        ),
    ],
)
def test_what_does_not_fit_leaves_no_run(released, config, words, tmp_path, change, message):
    path = tmp_path / "wrong.npz"
    weight_files.write(path, change(released), field="--out")
    with pytest.raises(ValueError, match=message):
        convert.convert_run(str(path), config, tmp_path / "run", vocabulary=str(words))
    assert not (tmp_path / "run").exists()


def test_a_converted_run_is_evaluated(released, config, words, tiny_data_dir, tmp_path):
    config = copy.deepcopy(config)
    config.data.name, config.data.data_dir = "synth_pedes/tiny", str(tiny_data_dir)
    config.data.cache_dir = str(tiny_data_dir / "cache")
    weight_files.write(tmp_path / "best.npz", released, field="--out")
    source, workdir = str(tmp_path / "best.npz"), tmp_path / "run"
    convert.convert_run(source, config, workdir, vocabulary=str(words))
    found = evaluate.evaluate_run(workdir)
    assert (found["checkpoint"], found["step"], found["split"]) == ("best", 0, "test")
    assert 0 <= found["t2i"]["rank1"] <= 100


@pytest.mark.parametrize("field", ["pretrained", "init_from"])
def test_other_weights_besides(config, words, tmp_path, field):
    config = copy.deepcopy(config)
    config[field] = "elsewhere"
    with pytest.raises(ValueError, match=rf"config\.{field} is 'elsewhere'.*leave it out"):
        convert.convert_run("best.npz", config, tmp_path / "run", vocabulary=str(words))


def test_a_batch_of_devices_that_are_not_known(config, words, tmp_path):
    config = copy.deepcopy(config)
    config.batch_per_device = 64
    with pytest.raises(ValueError, match=r"config\.batch_per_device is 64.*leave it out"):
        convert.convert_run("best.npz", config, tmp_path / "run", vocabulary=str(words))


RECORDS = [
    {"split": "train", "processed_tokens": [["A", "red"], ["red", "bag"]]},
    {"split": "test", "processed_tokens": [["blue", "blue"]]},
    {"split": "TRAIN", "processed_tokens": [["bag", "a", "scarf"]]},
]


@pytest.mark.parametrize(
    ("name", "content", "unknown", "words"),
    [
        ("words.txt", b"a\nred\nbag\n", "unk", ("a", "red", "bag")),
        ("words.txt", b"\xef\xbb\xbfa\r\nred\r\nbag", "unk", ("a", "red", "bag")),
        ("ind2word.pkl", pickle.dumps(["a", "red", "bag"]), "drop", ("a", "red", "bag")),
        ("ind2word.pkl", pickle.dumps(["a", "t-shirt"]), "drop", ("a", "unusedrow2")),
        ("reid_raw.json", json.dumps(RECORDS).encode(), "drop", ("a", "red", "bag")),
    ],
    ids=["text", "text of Windows", "pickle", "a word of another tokeniser", "annotations"],
)
def test_words_of_the_table(tmp_path, name, content, unknown, words):
    (tmp_path / name).write_bytes(content)
    found = convert.read_vocabulary(tmp_path / name, unknown="unk")
    assert (found.words, found.unknown) == (words, unknown)


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("ran_it"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no_such.txt", None, "there is no such file"),
        ("code.pkl", pickle.dumps(["a", Code()]), "asks for pathlib"),
        ("cut.pkl", pickle.dumps(["a"])[:-3], "cannot be read as words"),
        ("number.pkl", pickle.dumps(3), "cannot be read as words"),
        ("letters.pkl", pickle.dumps("abc"), "it holds no list of words"),
        ("empty.txt", b"", "holds no words"),
        ("empty.json", b"[]", "holds no words"),
        ("counts.txt", b"a 1\nred 2\n", "is not a word of the tokeniser"),
        ("gap.txt", b"a\n\nred\n", "is not a word of the tokeniser"),
        ("broken.json", b"[{", "cannot be read as words"),
        ("other.json", b"[1, 2]", "cannot be read as words"),
        ("other2.json", b"{}", "is not a vocabulary"),
        ("twice.txt", b"a\na\n", "stands at 0 already"),
        ("bytes.txt", b"\xff\xfe", "cannot be read as words"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_words_that_cannot_be_read(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        pathlib.Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"--vocabulary is '{re.escape(name)}'.*{message}"):
        convert.read_vocabulary(name, unknown="unk")
    assert not pathlib.Path("ran_it").exists()


def test_more_words_than_rows(released, config, tmp_path):
    (tmp_path / "many.txt").write_text("\n".join("abcdefghij"))
    weight_files.write(tmp_path / "best.npz", released, field="--out")
    with pytest.raises(ValueError, match=r"10 words, which take 11 rows.* has 8\."):
        convert.convert_run(
            str(tmp_path / "best.npz"),
            config,
            tmp_path / "run",
            vocabulary=str(tmp_path / "many.txt"),
        )


def test_another_format_of_the_same_tensors(released, tmp_path):
    weight_files.write(tmp_path / "a.npz", released, field="--out")
    out, weights = convert.convert_file(str(tmp_path / "a.npz"), tmp_path / "a.safetensors")
    assert weights.sha256 == weight_sources.digest_of(tmp_path / "a.npz", "x")
    back = weight_files.read(out, field="--out").tensors
    assert all(np.array_equal(back[name], released[name]) for name in released)


def test_the_command_line(released, words, tmp_path, capsys):
    source, workdir = tmp_path / "best.npz", tmp_path / "run"
    weight_files.write(source, released, field="--out")
    fields = [f"--config.{name}={value}" for name, value in tiny.SMALLEST.items()]
    preset = f"{tiny.CONFIGS / 'ssan.py'}:quickstart,runlocal,released"
    arguments = ["convert", source, "--config", preset, "--vocabulary", words]

    def call(*words):
        code = cli.main([str(word) for word in words])
        return code, capsys.readouterr()

    code, out = call(*arguments, "--workdir", workdir, *fields)
    assert code == 0, out.err
    assert "2 kept (the released program does not save" in out.out
    assert f"5 words, 9 identities. Next:\n  jaxreid evaluate --workdir {workdir}" in out.out
    code, out = call("export", "--workdir", workdir, "--to", "torch", "--out", tmp_path / "b.npz")
    assert (code, out.out) == (0, f"Wrote {len(released)} tensors to {tmp_path / 'b.npz'}\n")
    out_of_reach = ["export", "--workdir", workdir, "--out", tmp_path / "d"]
    code, out = call(*out_of_reach, "--to", "onnx")
    assert (code, "--to is 'onnx'; it takes one of torch, stablehlo, saved" in out.err) == (1, True)
    code, out = call(*out_of_reach, "--to", "stablehlo", "--backbone")
    assert (code, "--backbone goes with --to torch" in out.err) == (1, True)
    code, out = call(*out_of_reach, "--to", "torch", "--platforms", "cpu")
    assert (code, "--platforms goes with" in out.err) == (1, True)
    code, out = call("convert", source, "--to", "d.npz", "--config", preset)
    assert (code, "go with --workdir" in out.err) == (1, True)
    code, out = call("convert", source, "--to", tmp_path / "c.safetensors")
    assert code == 0
    assert weight_sources.digest_of(source, "x") in out.out
    for wrong, message in (
        ((), "give one of --to FILE.safetensors"),
        (("--to", "x.npz", "--workdir", "y"), "give one of --to FILE.safetensors"),
        (("--workdir", tmp_path / "other"), "--workdir takes --config FILE:PRESET"),
    ):
        code, out = call("convert", source, *wrong)
        assert code == 1
        assert message in out.err
    code, out = call("train", "--config", preset, "--workdir", workdir, *fields)
    assert code == 0, out.err
    assert "was finished already" in out.out


def test_a_run_made_in_a_bucket_of_what_lies_there(bucket, released, config, words, tmp_path):
    path = tmp_path / "best.npz"
    weight_files.write(path, released, field="--out")
    bucket.put("ssan/best.npz", path.read_bytes())
    bucket.put("ssan/words.txt", words.read_bytes())
    where = "gs://bucket/ssan/best.npz", config, "gs://bucket/run"
    found = convert.convert_run(*where, vocabulary="gs://bucket/ssan/words.txt")
    assert (str(found.workdir), found.num_words) == ("gs://bucket/run", len(WORDS))
    with pytest.raises(ValueError, match="'gs://bucket/run' holds a run already"):
        convert.convert_run(*where, vocabulary="gs://bucket/ssan/words.txt")
    out, count = convert.export_torch("gs://bucket/run", "gs://bucket/out/again.npz")
    assert count == len(released)
    assert bucket.below("out/") == ["out/again.npz", "out/again_vocabulary.json"]
    again = weight_files.read(str(out), field="WEIGHTS").tensors
    assert all(np.array_equal(again[name], tensor) for name, tensor in released.items())
    with pytest.raises(ValueError, match="again.npz' exists; name a new file"):
        convert.export_torch("gs://bucket/run", "gs://bucket/out/again.npz")
