"""A run as two processes of two devices, and as one of four: the same training, either way on.

Slow: four programs are compiled, and two cores run four devices.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import psutil
import pytest

from jaxreid import checkpoint, exit_codes, hosts
from tests.jaxreid import processes
from tests.jaxreid.stopping import leaves_by_name

pytestmark = pytest.mark.slow

STEPS, SAVED = 24, 8

# Stops a run of four devices when a checkpoint is there.
STOP = """
import sys
from jaxreid import cli
from tests.jaxreid import stopping

with stopping.watched_saves(stop=int(sys.argv[1])):
    try:
        cli.main(["train", *sys.argv[2:]])
    except stopping.Stopped:
        pass
"""


@pytest.fixture(scope="module")
def config(tiny_data_dir, tmp_path_factory):
    """Words that make the small config on the command line."""
    fields = {
        "data.name": "synth_pedes/tiny",
        "data.data_dir": tiny_data_dir,
        "data.cache_dir": tmp_path_factory.mktemp("cache"),
        "data.feed": "host",  # the one in which hosts read different rows
        "mesh.model": 4,  # classifiers that no host holds whole
        "checkpoint_every_steps": SAVED,
        "log_every_steps": 1,
        "stages[0].epochs": 10,
        "stages[0].max_steps": STEPS,
        "stages[0].validate_epochs": 10,
        # Adam takes a full step the other way where a gradient of nearly 0 changes its sign. And
        # now and then an activation ends on the other side of a ReLU's kink, which changes a
        # gradient by up to a hundredth, and at usual rates is carried on. At this one it changes
        # the loss by a millionth, and all steps together do so a thousand times as much.
        "stages[0].optimizer": "sgd",
        "stages[0].learning_rate": 3e-6,
    }
    fields = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config", "configs/ssan.py:quickstart,runlocal", *fields]


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """The folder of the undisturbed run of one process with four devices."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    codes, outputs = processes.train(folder, config).wait()
    assert codes == [0], outputs
    return folder


def _lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _assert_same_run(folder, expected):
    """Compares losses and weights: sums over devices are taken in another order, no more."""
    found, wanted = _lines(folder), _lines(expected)
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    for one, other in zip(found, wanted, strict=True):
        if "train/loss" in one:
            np.testing.assert_allclose(one["train/loss"], other["train/loss"], rtol=5e-6)
    weights, wanted = _weights(folder), _weights(expected)
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        # Training moves weights by some 1e-3 of their largest, and by some 1e-6 what began at 0.
        limit = 1e-5 * np.abs(value).max() + 3e-8
        np.testing.assert_allclose(weights[name], value, atol=limit, rtol=0, err_msg=name)


def _weights(folder):
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with checkpoint.Checkpoints(folder) as checkpoints:
        assert checkpoints.last == STEPS
        return leaves_by_name(checkpoints.restore_variables(STEPS, place))


def _wait_for(path, run, seconds=processes.TIMEOUT):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, [output.read_text() for output in run.outputs]
        assert run.processes[0].poll() is None, run.outputs[0].read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module", params=[0, 1], ids=["the first", "the second"])
def killed(request, config, tmp_path_factory):
    """The folder of a run of two processes, of which one was killed, as it was left."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    run = processes.train(folder, config, processes=2, devices=2)
    _wait_for(folder / "checkpoints" / str(SAVED), run)
    run.kill(request.param)
    since = time.monotonic()
    codes, outputs = run.wait(120)
    taken = time.monotonic() - since
    assert codes[request.param] == -9
    # What the survivor ends with differs: an abort by JAX, or an error in its exchange with the
    # other. It is never an end that looks like success or like an explained error.
    assert codes[1 - request.param] not in (0, exit_codes.FAILED, exit_codes.STOPPED), outputs
    assert taken < 60 + hosts.HEARTBEAT_SECONDS, "it should not wait for the dead"
    assert not (folder / "checkpoints" / str(STEPS)).exists(), "it was killed too late to tell"
    return folder


def test_goes_on_with_as_many_processes(killed, config, alone):
    folder = killed.parent / "both"
    shutil.copytree(killed, folder)
    codes, (first, second) = processes.train(folder, config, processes=2, devices=2).wait()
    assert codes == [0, 0], (first, second)
    assert "going on at step" in first
    assert "loss" in first
    assert "loss" not in second, "one process speaks for all"
    _assert_same_run(folder, alone)


def test_goes_on_with_one_process(killed, config, alone):
    folder = killed.parent / "one"
    shutil.copytree(killed, folder)
    codes, (output,) = processes.train(folder, config).wait()
    assert codes == [0], output
    assert "going on at step" in output
    _assert_same_run(folder, alone)


def test_goes_on_with_fewer_devices(killed, config, alone):
    """On two, of which both share the classifiers; the order of the data is the same."""
    folder = killed.parent / "fewer"
    shutil.copytree(killed, folder)
    words = [*config, "--config.mesh.model=2"]
    codes, (output,) = processes.train(folder, words, devices=2).wait()
    assert codes == [0], output
    assert "going on at step" in output
    _assert_same_run(folder, alone)


def test_two_processes_go_on_with_what_one_has_begun(config, alone, tmp_path):
    folder = tmp_path / "run"
    words = ["-c", STOP, str(SAVED), "--workdir", str(folder), *config]
    _, outputs = processes.Processes([words], devices=4, folder=tmp_path).wait()
    assert (folder / "checkpoints" / str(SAVED)).exists(), outputs
    codes, outputs = processes.train(folder, config, processes=2, devices=2).wait()
    assert codes == [0, 0], outputs
    assert f"going on at step {SAVED} of {STEPS}" in outputs[0]
    _assert_same_run(folder, alone)


@pytest.mark.parametrize("told", [0, 1], ids=["the first", "the second"])
def test_told_to_stop_all_save_at_the_same_step(told, config, alone, tmp_path):
    folder = tmp_path / "run"
    run = processes.train(folder, config, processes=2, devices=2)
    _wait_for(folder / "checkpoints" / str(SAVED), run)
    run.processes[told].terminate()
    codes, outputs = run.wait(120)
    assert codes == [exit_codes.STOPPED] * 2, outputs
    assert "was stopped by" in outputs[0]
    assert "was stopped by" not in outputs[1]
    with checkpoint.Checkpoints(folder) as checkpoints:
        stopped_at = checkpoints.last
    assert SAVED <= stopped_at < STEPS, "it was told too late to tell"
    codes, outputs = processes.train(folder, config).wait()
    assert codes == [0], outputs
    assert f"going on at step {stopped_at} of {STEPS}" in outputs[0]
    _assert_same_run(folder, alone)


def test_two_processes_evaluate_as_one_does(alone, tmp_path):
    scores = {}
    for count in (1, 2):
        words = ["evaluate", "--workdir", str(alone), "--checkpoint", "last"]
        run = processes.jaxreid(words, folder=tmp_path, processes=count, devices=4 // count)
        codes, outputs = run.wait()
        assert codes == [0] * count, outputs
        assert "Rank-1" in outputs[0]
        assert not any("Rank-1" in output for output in outputs[1:])
        scores[count] = json.loads((alone / "eval" / "test.json").read_text())
    assert scores[1] == scores[2]


def test_the_launcher_says_who_died_and_starts_all_again(config, alone, tmp_path):
    folder = tmp_path / "run"
    program = pathlib.Path(sys.executable).with_name("jaxreid")
    words = ["bash", "launch/local.sh", "--processes", "2", "--restarts", "1", "--pause", "0"]
    with (tmp_path / "output").open("w") as file:
        launcher = subprocess.Popen(
            [*words, "--", "--workdir", str(folder), *config],
            env={**processes.environment(2), "JAXREID": str(program)},
            cwd=processes.ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + processes.TIMEOUT
        while not (folder / "checkpoints" / str(SAVED)).exists():
            assert launcher.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        (victim,) = [
            child
            for child in psutil.Process(launcher.pid).children(recursive=True)
            if "--process_id" in child.cmdline() and child.cmdline()[-1] == "1"
        ]
        victim.kill()
        assert launcher.wait(processes.TIMEOUT) == 0, (tmp_path / "output").read_text()
    finally:
        launcher.kill()
    said = (tmp_path / "output").read_text()
    assert "process 1 of 2 ended with code 137 (signal KILL)" in said
    assert "restart 1 of 1" in said
    assert "going on at step" in said
    _assert_same_run(folder, alone)


def test_an_error_of_one_is_an_error_of_all(config, tmp_path):
    """The second host cannot write its cache of images."""
    (tmp_path / "file").write_text("")
    words = ["-m", "jaxreid.cli", "train", "--workdir", str(tmp_path / "run"), *config]
    words += ["--coordinator", f"127.0.0.1:{processes.free_port()}", "--num_processes", "2"]
    commands = [[*words, "--process_id", "0"], [*words, "--process_id", "1"]]
    commands[1].append(f"--config.data.cache_dir={tmp_path / 'file' / 'below'}")
    codes, outputs = processes.Processes(commands, devices=2, folder=tmp_path).wait(120)
    assert codes == [exit_codes.FAILED] * 2, outputs
    assert "the cache of decoded images cannot be written" in outputs[1]
    assert "process 1 of 2 could not go on: the cache of decoded images" in outputs[0]


def test_hosts_with_other_fields_do_not_start(config, tmp_path):
    words = ["-m", "jaxreid.cli", "train", "--workdir", str(tmp_path / "run"), *config]
    words += ["--coordinator", f"127.0.0.1:{processes.free_port()}", "--num_processes", "2"]
    commands = [[*words, "--process_id", "0"], [*words, "--process_id", "1", "--config.seed=3"]]
    codes, outputs = processes.Processes(commands, devices=2, folder=tmp_path).wait(120)
    assert codes == [exit_codes.FAILED] * 2, outputs
    for output in outputs:
        assert "or the hosts were started with other fields" in output
