"""The benches of images and of builds run, and report what they measured; no speed is tested."""

import json
import mmap

import cv2
import numpy as np
import pytest

from jaxreid import cli
from jaxreid.bench import build, input, measure

PARTS = {
    "files_of_this_size",
    "files_of_other_sizes",
    "cache_to_devices",
    "decoding_other_sizes_alone",
}


def test_input_is_measured_from_files_to_devices(tmp_path, capsys):
    words = ["bench", "input", "--images=20", "--image_size", "24", "16", "--batch_size=8"]
    words += ["--repeats=2", "--resize=bilinear", f"--json={tmp_path / 'input.json'}"]
    assert cli.main(words) == 0
    read = json.loads((tmp_path / "input.json").read_text())
    assert set(read["seconds"]) == set(read["images_per_second"]) == PARTS
    images = {name: 20 for name in PARTS} | {"cache_to_devices": 24}  # three batches
    for name, seconds in read["seconds"].items():
        assert seconds["count"] == 2
        assert read["images_per_second"][name] == pytest.approx(images[name] / seconds["median"])
    assert read["image_size"] == [24, 16]
    assert read["resize"] == "bilinear"
    assert 100 < read["bytes_per_file"] < 5000
    assert "load_average" in read
    table = capsys.readouterr().out
    for words in ("input of 20 images, 24 x 16", "resized bilinear", "batches of 8", "images/s"):
        assert words in table
    assert table.startswith("input of ")  # what TFDS says goes to the other stream


def test_made_up_photographs_are_of_the_sizes_and_bytes_asked_for():
    files = list(input.made_up_photographs(12, (384, 128), (1.0, 1.0), seed=0))
    assert 10e3 < np.mean([len(file) for file in files]) < 20e3
    assert len(set(files)) == 12
    pictures = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files]
    assert {picture.shape for picture in pictures} == {(384, 128, 3)}
    assert np.mean([picture.std() for picture in pictures]) > 20
    others = input.made_up_photographs(12, (384, 128), (0.5, 1.5), seed=0)
    shapes = [cv2.imdecode(np.frombuffer(file, np.uint8), 1).shape for file in others]
    assert all(192 <= height <= 576 and 64 <= width <= 192 for height, width, _ in shapes)
    assert len(set(shapes)) == 12


def test_a_build_is_measured(tmp_path, capsys):
    words = ["bench", "build", "--images=40", f"--json={tmp_path / 'build.json'}"]
    assert cli.main(words) == 0
    read = json.loads((tmp_path / "build.json").read_text())
    assert read["images"] == 40
    assert read["dataset"] == "cuhk_pedes"
    assert read["images_per_second"] == pytest.approx(40 / read["seconds"])
    assert read["written_bytes"] > 40 * 100
    assert len(read["peak_anonymous_growth_bytes_by_quarter"]) == 4
    quarters = read["peak_anonymous_growth_bytes_by_quarter"]
    assert read["peak_anonymous_growth_bytes"] == max(quarters)
    assert read["progress_updates"] >= 3  # one a split
    printed = capsys.readouterr()
    assert printed.out.startswith("build of cuhk_pedes from 40 made-up image files\n")
    assert "examples" in printed.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["input", "--images=0"], "--images is 0"),
        (["input", "--image_size", "8", "0"], "--image_size is 0"),
        (["input", "--batch_size=-1"], "--batch_size is -1"),
        (["input", "--repeats=0"], "--repeats is 0"),
        (["input", "--resize=nearest"], "config.data.resize is 'nearest'"),
        (["build", "--images=0"], "--images is 0"),
        (["build", "--dataset=no_such_set"], "no_such_set"),
        (["build", "--dataset=synth_pedes/tiny", "--images=9"], "such as cuhk_pedes"),
    ],
)
def test_what_cannot_be_measured_is_explained(words, named, capsys):
    assert cli.main(["bench", *words]) == 1
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("what", ["input", "build"])
def test_benches_without_a_config_take_none(what, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", what, "--config.seed=1"])
    assert "unrecognized arguments: --config.seed=1" in capsys.readouterr().err


def test_progress_is_counted_and_passed_on(capsys):
    import sys

    stream = build._Watched(sys.stderr)
    stream.write("Writing train examples...: 10%")
    stream.write("\n")
    stream.flush()
    assert stream.updates == 1
    assert capsys.readouterr().err == "Writing train examples...: 10%\n"


def test_anonymous_memory_leaves_out_what_lies_in_files(tmp_path):
    path = tmp_path / "map.npy"
    np.save(path, np.ones(50_000_000, np.uint8))
    with measure.HostMemory(interval=0.001, anonymous=True) as memory:
        assert np.load(path, mmap_mode="r").sum() == 50_000_000
    assert memory.peak - memory.before < 25_000_000
    # Not from NumPy: the C library might hand out memory that it already has.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    block = mmap.mmap(-1, 50_000_000, flags=private)
    with measure.HostMemory(interval=0.001, anonymous=True) as memory, block:
        block.write(bytes(50_000_000))
        memory._sample()
    assert memory.peak - memory.before > 25_000_000
    assert len(memory.samples) > 2
