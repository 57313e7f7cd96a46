"""Files of weights: formats, sources, checksums, and what is refused."""

import contextlib
import hashlib
import importlib
import pathlib
import pickle
import sys
import types

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxreid import weight_files, weight_sources

TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": np.asarray(7, np.int64),
}
FORMATS = ["w.safetensors", "w.npz", "w.pth", "w.pt", "w.pth.tar"]


def read(path, **options):
    return weight_files.read(path, field="config.pretrained", **options)


def write(path, tensors=TENSORS):
    if ".pt" in path.name:
        pytest.importorskip("torch")
    weight_files.write(path, tensors, field="--out")
    return path


def assert_same(found, wanted=TENSORS):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert np.array_equal(found[name], tensor)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_back(tmp_path, name):
    path = write(tmp_path / name)
    found = read(path)
    assert_same(found.tensors)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.source == str(path)
    assert found.others == ()
    assert [file.name for file in tmp_path.iterdir()] == [name]  # nothing half written


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short(tmp_path, name):
    path = write(tmp_path / name)
    whole = path.read_bytes()
    for length in (len(whole) - 20, len(whole) // 2, 5):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cannot be read as .*fetch it again"):
            read(path)
    random = np.random.default_rng(0)
    for _ in range(200):  # one byte is another: it reads, or there is one clear error
        broken = bytearray(whole)
        broken[random.integers(len(whole))] ^= 1 + random.integers(255)
        path.write_bytes(broken)
        with contextlib.suppress(ValueError):
            read(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="an empty file: fetch it again"):
        read(path)
    path.write_text("<html>Sign in to download</html>\n" * 20)
    with pytest.raises(ValueError, match="cannot be read as"):
        read(path)


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("ran_it"),)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"conv.weight": torch.ones(2), "extra": Code()}, "code.pth")
    with pytest.raises(ValueError, match=r"which holds \S+: code, and not weights alone"):
        read("code.pth")
    torch.save(torch.nn.Linear(2, 2), "module.pth")
    with pytest.raises(ValueError, match=r"holds torch\.nn\.modules\S+: code.*state_dict\(\)"):
        read("module.pth")
    with pathlib.Path("plain.pth").open("wb") as file:
        pickle.dump({"conv.weight": Code()}, file, protocol=2)  # torch warns of newer ones
    with pytest.raises(ValueError, match=r"which holds \S+: code"):
        read("plain.pth")
    np.savez("objects.npz", weight=np.array([Code()], dtype=object))
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        read("objects.npz")
    assert not pathlib.Path("ran_it").exists()


def test_dictionaries_around_the_tensors_are_opened(tmp_path):
    inner = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    path = write(tmp_path / "w.pth", {"state_dict": inner, "epoch": 3, "optimizer": {"lr": 0.1}})
    found = read(path)
    assert_same(found.tensors)
    assert found.others == ("epoch", "optimizer")
    head = {"W.0.block.bias": np.ones(3, np.float32)}
    released = {"network": inner, "WL": head, "epoch": 3, "test_best": np.float64(0.6)}
    found = read(write(tmp_path / "best.pth.tar", released))
    assert_same(found.tensors, {**TENSORS, "WL.W.0.block.bias": np.ones(3, np.float32)})
    assert found.others == ("epoch", "test_best")


def test_nothing_is_dropped_or_written_over_in_silence(tmp_path):
    one = np.ones(1, np.float32)
    several = {"model": {"a": one}, "state_dict": {"a": one}}
    with pytest.raises(ValueError, match="holds several networks: state_dict, model"):
        read(write(tmp_path / "several.pth", several))
    for number, twice in enumerate(
        ({1: one, "1": one}, {"network": {"W.a": one}, "W": {"a": one}})
    ):
        with pytest.raises(ValueError, match=r"two tensors have the name (1|W\.a)"):
            read(write(tmp_path / f"twice{number}.pth", twice))
    nested = {"state_dict": {"model": {"a": one}}, "optimizer": {"exp_avg": one}}
    found = read(write(tmp_path / "nested.pth", nested))
    assert_same(found.tensors, {"a": one})
    assert found.others == ("optimizer",)


def test_module_is_taken_off_only_where_all_names_have_it(tmp_path):
    mixed = {"module.a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    assert_same(read(write(tmp_path / "w.npz", mixed)).tensors, mixed)


def test_sixteen_bits_are_widened(tmp_path):
    values = np.array([1.5, -2.0, 3.25], np.float32)  # exact in all three
    half = {"a": values.astype(np.float16), "b": values.astype(ml_dtypes.bfloat16)}
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(half, path)
    assert_same(read(path).tensors, {"a": values, "b": values})
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"a": torch.tensor(values).half(), "b": torch.tensor(values).bfloat16()}, path)
    assert_same(read(path).tensors, {"a": values, "b": values})


def test_other_orders_of_axes_and_bytes(tmp_path):
    torch = pytest.importorskip("torch")
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    conv = torch.tensor(values).to(memory_format=torch.channels_last)
    torch.save(
        {"conv": conv, "t": conv[0, 0].t(), "e": torch.ones(1, 2).expand(3, 2)}, tmp_path / "w.pth"
    )
    np.savez(tmp_path / "w.npz", fortran=np.asfortranarray(values), big=values.astype(">f4"))
    for name in ("w.pth", "w.npz"):
        tensors = read(tmp_path / name).tensors
        for other in FORMATS:
            assert_same(read(write(tmp_path / f"{name}-{other}", tensors)).tensors, tensors)
    assert_same(
        {"big": tensors["big"], "fortran": tensors["fortran"]},
        dict.fromkeys(("big", "fortran"), values),
    )


def test_a_tensor_that_is_no_array(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="whose tensor a is no plain array"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, name):
    if ".pt" in name:
        pytest.importorskip("torch")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(OSError, match=r"--out .* cannot be written: .*No space left"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"--out .* cannot be written"):
        write(tmp_path / "file" / name)
    write(tmp_path / name)
    with pytest.raises(ValueError, match=r"--out .* exists; name a new file"):
        write(tmp_path / name)


def test_any_name_of_a_tensor(tmp_path):
    names = {"file": np.ones(1, np.float32), "a/b": np.ones(2, np.float32)}
    assert_same(read(write(tmp_path / "w.npz", names)).tensors, names)


def test_a_file_without_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"epoch": 3, "note": "none"}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no tensors, only epoch, note"):
        read(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no tensors, only list"):
        read(tmp_path / "w.pth")


def test_the_checksum_that_a_name_tells_is_checked(tmp_path):
    path = write(tmp_path / "w.npz")
    digest = weight_sources.digest_of(path, "x")
    dated = path.rename(tmp_path / "resnet50-20240101.npz")
    assert read(dated).sha256 == digest  # a date is no checksum
    path = dated
    good = path.rename(tmp_path / f"resnet50-{digest[:8]}.npz")
    assert read(good).sha256 == digest
    wrong = good.rename(tmp_path / "resnet50-0123abcd.npz")
    with pytest.raises(ValueError, match=f"SHA-256 is {digest}; its name says 0123abcd"):
        read(wrong)


def test_the_checksum_of_a_file_that_is_known_is_checked(tmp_path, monkeypatch):
    path, source = write(tmp_path / "model.npz"), "hf://some/where/model.npz"
    hub = types.SimpleNamespace(hf_hub_download=lambda *_, **__: str(path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(weight_sources._KNOWN, source, "0" * 64)
    with pytest.raises(ValueError, match="its page says 0000"):
        read(source)
    monkeypatch.setitem(weight_sources._KNOWN, source, weight_sources.digest_of(path, "x"))
    assert read(source).source == source


def test_the_checksum_that_the_config_tells_is_checked(tmp_path):
    path = write(tmp_path / "w.npz")
    digest = weight_sources.digest_of(path, "x")
    assert read(path, sha256=digest.upper()).sha256 == digest
    other = "0" * 64
    with pytest.raises(ValueError, match=f"the config says {other}"):
        read(path, sha256=other)
    with pytest.raises(ValueError, match=r"config\.pretrained_sha256 is 'abc'; it takes the 64"):
        read(path, sha256="abc")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.npz", "there is no such file"),
        ("notes.txt", r"takes a file of one of these kinds: \.safetensors"),
        ("https://host/w.pth", "Download it and give its path"),
        (".", "a folder: name the file in it"),
        ("hf://owner/repo", "takes hf://OWNER/REPO/FILE"),
        ("hf://owner//file", "takes hf://OWNER/REPO/FILE"),
    ],
)
def test_other_sources_are_refused(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("notes.txt").write_text("none")
    with pytest.raises(ValueError, match=rf"config\.pretrained is '{source}'.*{message}"):
        read(source)
    with pytest.raises(ValueError, match=r"--out is .* takes a file of one of"):
        weight_files.write("weights.h5", TENSORS, field="--out")


def test_weights_from_the_hub(tmp_path, monkeypatch):
    path, asked = write(tmp_path / "model.npz"), []

    def download(repo, file, *, revision):
        asked.append((repo, file, revision))
        if repo == "some/where":
            return str(path)
        raise OSError("404 Client Error\nand a page of details")

    hub = types.SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert_same(read("hf://some/where/sub/model.npz").tensors)
    read("hf://some/where@v1/model.npz")
    assert asked == [
        ("some/where", "sub/model.npz", None),
        ("some/where", "model.npz", "v1"),
    ]
    with pytest.raises(ValueError, match=r"could not be fetched: 404 Client Error\. Check owner"):
        read("hf://no/where/model.npz")


@pytest.mark.parametrize(
    ("missing", "source", "extra"),
    [("huggingface_hub", "hf://a/b/c.npz", "hub"), ("torch", "w.pth", "reference")],
)
def test_what_a_missing_package_is_needed_for(tmp_path, monkeypatch, missing, source, extra):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("w.pth").write_bytes(b"x")

    def refuse(name):
        if name == missing:
            raise ModuleNotFoundError(name)
        return importlib.import_module(name)

    monkeypatch.setattr(weight_sources.importlib, "import_module", refuse)
    with pytest.raises(ValueError, match=rf"pip install\s'jaxreid\[{extra}\]'"):
        read(source)


def test_weights_from_a_bucket_are_copied_once_for_each_state(bucket, tmp_path):
    content = write(tmp_path / "model.npz").read_bytes()
    bucket.put("weights/model.npz", content)
    for _ in range(2):
        assert_same(read("gs://bucket/weights/model.npz").tensors)
    assert bucket.reads == ["weights/model.npz"]
    bucket.objects["weights/model.npz"] = (content, 9, 0.0)  # trained anew: of the same size
    read("gs://bucket/weights/model.npz")
    assert len(bucket.reads) == 2
    with pytest.raises(ValueError, match=r"'gs://bucket/absent.npz', which cannot be used"):
        read("gs://bucket/absent.npz")


def test_weights_written_to_a_bucket_read_back(bucket):
    weight_files.write("gs://bucket/out/model.safetensors", TENSORS, field="--to")
    assert bucket.uploads == ["out/model.safetensors"]
    assert_same(read("gs://bucket/out/model.safetensors").tensors)
    with pytest.raises(ValueError, match=r"model.safetensors' exists; name a new file"):
        weight_files.write("gs://bucket/out/model.safetensors", TENSORS, field="--to")
