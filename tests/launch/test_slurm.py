"""launch/slurm.sbatch: what goes back into the queue."""

import os
import signal
import time

import pytest

from tests.launch import harness


def _slurm(folder, *options, train=harness.TRAIN, returns=0, **scenario):
    job = {"SLURM_SUBMIT_DIR": str(harness.LAUNCH.parent), "SLURM_JOB_ID": "17"}
    job["SLURM_RESTART_COUNT"] = str(returns)
    return harness.Launch(
        folder, "slurm.sbatch", *options, "--", *train, environment=job, **scenario
    )


def test_a_step_gets_its_arguments_and_a_finished_job_stays_finished(tmp_path):
    done = _slurm(tmp_path, train=harness.ODD).run()
    assert done.code == 0
    (srun,) = done.calls("srun")
    program = str(done.folder / "jaxreid")
    assert srun[1:] == ["--wait=60", "--kill-on-bad-exit=0", program, "train", *harness.ODD]
    assert done.trainings() == [["train", *harness.ODD]]
    assert not done.calls("scontrol")


@pytest.mark.parametrize(
    ("code", "returns", "again"),
    [(75, 99, True), (1, 0, False), (2, 0, False), (130, 0, False), (9, 2, True), (9, 3, False)],
)
def test_a_job_goes_back_into_the_queue_where_that_helps(tmp_path, code, returns, again):
    done = _slurm(tmp_path, codes=[code], returns=returns).run()
    assert done.code == code
    assert done.calls("scontrol") == ([["scontrol", "requeue", "17"]] if again else [])
    assert f"code {code}" in done.said


def test_a_job_that_is_told_to_stop_waits_for_its_processes(tmp_path):
    launch = _slurm(tmp_path, codes=["wait"])
    started = launch.start()
    harness.wait_for(launch.folder / "waits-None")
    started.terminate()  # the script alone: srun would kill its tasks
    time.sleep(0.5)
    assert started.poll() is None
    os.kill(int((launch.folder / "waits-None").read_text()), signal.SIGTERM)
    started.communicate(timeout=60)
    assert started.returncode == 75
    assert launch.calls("scontrol") == [["scontrol", "requeue", "17"]]


def test_slurm_signals_the_processes_not_the_script():
    head = (harness.LAUNCH / "slurm.sbatch").read_text().split("\n\n")[0]
    assert "#SBATCH --signal=TERM@120\n" in head
    assert "#SBATCH --requeue\n" in head


def test_a_job_from_another_folder_is_told_where_to_start(tmp_path):
    done = harness.Launch(
        tmp_path, "slurm.sbatch", environment={"SLURM_SUBMIT_DIR": str(tmp_path)}
    ).run()
    assert done.code == 2
    assert "Submit from the project's root" in done.said
