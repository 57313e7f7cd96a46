"""launch/local.sh: what is started again, what is not, and several processes."""

import os
import signal
import time

import pytest

from tests.launch import harness


def _local(folder, *options, train=harness.TRAIN, **scenario):
    return harness.Launch(folder, "local.sh", "--pause=1", *options, "--", *train, **scenario)


def test_arguments_arrive_as_they_were_given(tmp_path):
    done = _local(tmp_path, train=harness.ODD).run()
    assert done.code == 0
    assert done.trainings() == [["train", *harness.ODD]]


def test_a_stopped_run_is_started_again_without_being_asked_for(tmp_path):
    done = _local(tmp_path, codes=[75, 75, 0]).run()
    assert done.code == 0
    assert done.trainings() == [["train", *harness.TRAIN]] * 3
    assert "code 75: stopped, and everything is saved" in done.said


@pytest.mark.parametrize("code", [1, 2])
def test_an_explained_error_is_not_tried_again(tmp_path, code):
    done = _local(tmp_path, "--restarts=5", codes=[code]).run()
    assert done.code == code
    assert len(done.trainings()) == 1
    assert f"code {code}: an error that jaxreid explains above" in done.said


def test_what_ctrl_c_has_stopped_is_not_started_again(tmp_path):
    done = _local(tmp_path / "one", "--restarts=5", codes=[130]).run()
    assert done.code == 130
    assert len(done.trainings()) == 1
    assert "code 130: stopped by Ctrl-C, and everything is saved" in done.said
    # The signal comes to one process, from which the others hear of it.
    scenario = {"codes-0": [75], "codes-1": [130]}
    done = _local(tmp_path / "two", "--restarts=5", "--processes=2", **scenario).run()
    assert done.code == 130
    assert len(done.trainings()) == 2
    assert "process 1 of 2 ended with code 130 (Ctrl-C)" in done.said
    assert "ending the others" not in done.said


def test_crashes_are_tried_again_as_often_as_asked_for(tmp_path):
    done = _local(tmp_path, "--restarts=2", codes=[-11, 75, 3, -9]).run()
    assert done.code == 137
    assert len(done.trainings()) == 4
    assert "crashed with code 139 (signal SEGV); restart 1 of 2" in done.said
    assert "crashed with code 137 (signal KILL); --restarts 2 allows no further start" in done.said


def test_processes_find_each_other_and_start_again_together(tmp_path):
    scenario = {"codes-0": ["wait", 0], "codes-1": [-9, 0]}
    done = _local(tmp_path, "--processes=2", "--restarts=1", **scenario).run()
    assert done.code == 0
    trainings = sorted(done.trainings(), key=lambda words: words[-1])
    assert len(trainings) == 4
    for words in trainings:
        assert words[:5] == ["train", *harness.TRAIN]
        assert words[5::2] == ["--coordinator", "--num_processes", "--process_id"]
        assert words[6].startswith("127.0.0.1:")
        assert words[8] == "2"
    assert [words[-1] for words in trainings] == ["0", "0", "1", "1"]
    assert "process 1 of 2 ended with code 137 (signal KILL)" in done.said
    assert "they cannot go on without process 1" in done.said


def test_who_has_lost_another_does_not_hide_what_the_other_says(tmp_path):
    scenario = {"codes-0": [69], "codes-1": ["late"]}
    done = _local(tmp_path, "--processes=2", "--restarts=3", **scenario).run()
    assert done.code == 1
    assert len(done.trainings()) == 2
    assert "code 69 (another process was lost)" in done.said


def test_a_process_that_does_not_hear_is_killed(tmp_path):
    scenario = {"codes-0": ["deaf"], "codes-1": [3]}
    done = _local(tmp_path, "--processes=2", "--grace=1", **scenario).run()
    assert done.code == 3
    assert "process 0 of 2 ended with code 137 (signal KILL)" in done.said


def test_processes_that_were_stopped_are_left_to_save(tmp_path):
    scenario = {"codes-0": ["wait"], "codes-1": [75]}
    launch = _local(tmp_path, "--processes=2", "--port=4321", **scenario)
    started = launch.start()
    harness.wait_for(launch.folder / "waits-0")
    time.sleep(0.5)  # process 1 has ended; process 0 must not have been told to
    assert started.poll() is None
    started.terminate()
    _, said = started.communicate(timeout=60)
    assert started.returncode == 75
    assert "ending the others" not in said
    assert all("127.0.0.1:4321" in words for words in launch.trainings())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once_and_ends_the_launcher(tmp_path, number):
    launch = _local(tmp_path, codes=["wait", 0])
    started = launch.start()
    harness.wait_for(launch.folder / "waits-None")
    os.killpg(started.pid, number)  # as a terminal does
    _, said = started.communicate(timeout=60)
    assert started.returncode == 75
    assert len(launch.trainings()) == 1
    assert "The same command goes on" in said


def test_gpus_are_shared_out_among_processes(tmp_path):
    options = ("--processes=2", "--dry_run")
    launch = _local(tmp_path, *options, environment={"CUDA_VISIBLE_DEVICES": "4,5,6,7"})
    smi = launch.folder / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: stub'\n")
    smi.chmod(0o755)
    done = launch.run()
    lines = done.out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "CUDA_VISIBLE_DEVICES=4,5",
        "CUDA_VISIBLE_DEVICES=6,7",
    ]
    launch.environment["CUDA_VISIBLE_DEVICES"] = "4,5,6"
    assert "the 3 GPUs cannot be shared out evenly" in launch.run().said


def test_missing_arguments_are_named(tmp_path):
    done = _local(tmp_path, train=harness.TRAIN[:2]).run()
    assert done.code == 2
    assert "--workdir is missing" in done.said
    assert not done.calls()
    done = harness.Launch(tmp_path / "sub", "local.sh", "--processes=none", "--", *harness.TRAIN)
    assert "--processes is 'none'; it takes a whole number from 1" in done.run().said
