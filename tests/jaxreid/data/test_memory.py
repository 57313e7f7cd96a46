"""A cache of the size of CUHK-PEDES stays on the disk while a network trains from it."""

import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = """
import dataclasses, pathlib, sys, threading, time
import numpy as np
from absl import flags
from jaxreid import runs, train
from jaxreid.bench import made_up
from tests.jaxreid import tiny

flags.FLAGS.mark_as_parsed()
folder = pathlib.Path(sys.argv[1])
config = tiny.get_config("cuhk_pedes,runlocal")
config.data.feed = "host"


def data(images, ids):
    config.data.image_size = (1, 1)
    made = made_up.run_data(config, num_images=images, num_ids=ids, vocab_size=5000)
    config.data.image_size = (384, 128)
    header = {"descr": "|u1", "fortran_order": False, "shape": (images, 384, 128, 3)}
    path = folder / f"{images}.npy"
    with path.open("wb") as file:  # a file of nothing but a hole
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + images * 384 * 128 * 3)
    split = dataclasses.replace(made.train.split, images=np.load(path, mmap_mode="r"))
    return dataclasses.replace(made, train=dataclasses.replace(made.train, split=split))


whole = dataclasses.replace(data(34_054, 11_003), val=data(256, 64).train)
runs.finish_data = lambda *_: None
runs.load_run_data = lambda *_: whole
peak = 0


def watch():
    global peak
    while True:
        status = pathlib.Path("/proc/self/status").read_text()
        peak = max(peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)
        time.sleep(0.02)


threading.Thread(target=watch, daemon=True).start()
done = train.train(config, folder / "run")
print(done["step"], peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="Linux counts it there")
def test_a_cache_of_five_gigabytes_takes_no_memory_of_the_process(tmp_path):
    root = pathlib.Path(__file__).parents[3]
    env = os.environ | {
        "PYTHONPATH": str(root),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    for name in ("compiles", "measured"):  # the compiler has 0.6 GB of its own
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder)],
            env=env,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
    steps, peak = map(int, done.stdout.split())
    assert steps == 20
    assert 100e6 < peak < 1e9
