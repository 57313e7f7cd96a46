"""launch/tpu_vm.sh and tpu_pod.sh, and the script that they run on the machines."""

import os
import signal

import pytest

from tests.launch import harness, stubs


def _vm(folder, *options, train=harness.TRAIN, script="tpu_vm.sh", **scenario):
    options = ("--zone=z", "--poll_seconds=1", *options)
    return harness.Launch(folder, script, *options, "--", *train, **scenario)


def test_a_vm_that_is_not_there_is_created_and_arguments_arrive_there(tmp_path):
    done = _vm(
        tmp_path, "--spot", "--project=p", train=harness.ODD, states=["ABSENT", "READY"]
    ).run()
    assert done.code == 0, done.said
    where = ["--zone", "z", "--project", "p"]
    created = ["jaxreid", "--accelerator-type", "v5litepod-8", "--version", "v2-alpha-tpuv5-lite"]
    assert done.gcloud("create") == [
        ["gcloud", "compute", "tpus", "tpu-vm", "create", *created, "--spot", *where]
    ]
    assert done.trainings() == [["train", *harness.ODD]]
    assert "jaxreid ends with 0" in done.out, "the log is streamed"
    assert not done.gcloud("delete")
    assert "is still there and costs money" in done.said
    checkout = done.folder / "worker-0" / "jaxreid"
    names = {"LICENSE", "README.md", "pyproject.toml"}
    assert set(os.listdir(checkout)) == names | {"configs", "jaxreid", "launch", "tfds_builders"}


def test_a_vm_that_is_there_is_used_again_and_deleted_on_request(tmp_path):
    done = _vm(tmp_path, "--delete", states=["READY"]).run()
    assert done.code == 0
    assert not done.gcloud("create")
    assert done.verbs()[-1] == "delete"


def test_delete_alone_only_deletes(tmp_path):
    done = harness.Launch(tmp_path, "tpu_vm.sh", "--zone=z", "--delete").run()
    assert done.code == 0
    assert done.verbs() == ["delete"]


def test_a_vm_restarts_what_was_stopped_and_reports_what_was_explained(tmp_path):
    done = _vm(tmp_path, states=["READY"], codes=[75, 1]).run()
    assert done.code == 1
    assert len(done.trainings()) == 2
    assert "worker 0 of 1: code 1" in done.said
    assert "to start again would change nothing" in done.said


def test_what_ctrl_c_has_stopped_on_a_vm_is_not_started_again(tmp_path):
    done = _vm(tmp_path, states=["READY"], codes=[130]).run()
    assert done.code == 130
    assert len(done.trainings()) == 1
    assert "worker 0 of 1: code 130" in done.said
    assert "stopped by Ctrl-C" in done.said


def test_what_is_always_killed_on_a_vm_is_not_started_for_ever(tmp_path):
    done = _vm(tmp_path, "--restarts=1", states=["READY"], codes=["all killed"]).run()
    assert done.code == 137
    assert len(done.trainings()) == 2
    assert "worker 0 of 1: gone" in done.said
    assert "killed without leaving a code; restart 1 of 1" in done.said
    assert "--restarts 1 are used up" in done.said


def test_a_vm_that_was_taken_away_is_created_again_and_trains_again(tmp_path):
    # It answers to the copying, the installation and the start; then it is gone.
    reachable = [True, True, True, False, False, True]
    states = ["READY", "PREEMPTED", "ABSENT", "READY"]
    done = _vm(tmp_path, "--spot", states=states, reachable=reachable, codes=["wait", 0]).run()
    assert done.code == 0
    assert "was taken away (PREEMPTED)" in done.said
    verbs = [verb for verb in done.verbs() if verb in ("create", "delete", "describe")]
    assert verbs == ["describe", "describe", "delete", "describe", "create", "describe"]
    assert done.trainings() == [["train", *harness.TRAIN]] * 2


def test_a_lost_connection_leaves_the_training_and_is_taken_up_again(tmp_path):
    launch = _vm(tmp_path, states=["READY"], codes=["wait"])
    started = launch.start()
    harness.wait_for(launch.folder / "waits-None")
    os.killpg(started.pid, signal.SIGKILL)  # the launcher, ssh and what it runs
    started.communicate(timeout=60)
    again = launch.start()
    line = again.stdout.readline() + again.stdout.readline()
    assert "jaxreid train --config configs/ssan.py:quickstart" in line
    supervisor = launch.folder / "worker-0" / "jaxreid-run" / "pid"
    os.killpg(int(supervisor.read_text()), signal.SIGTERM)
    harness.wait_for(supervisor.parent / "code")
    assert (supervisor.parent / "code").read_text() == "75\n"
    os.killpg(again.pid, signal.SIGKILL)
    again.communicate(timeout=60)
    assert len(launch.trainings()) == 1, "started once, followed twice"


def test_another_training_on_the_vm_is_not_disturbed(tmp_path):
    launch = _vm(tmp_path, states=["READY"], codes=["wait"])
    started = launch.start()
    harness.wait_for(launch.folder / "waits-None")
    launch.command[-1] = "gs://bucket/runs/two"
    done = launch.run()
    assert done.code == 1
    assert "another training runs here: --config configs/ssan.py:quickstart" in done.said
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate(timeout=60)
    stubs.end_workers(launch.folder)


def test_trouble_with_the_account_is_no_missing_vm(tmp_path):
    done = _vm(tmp_path, states=["DENIED"]).run()
    assert done.code == 1
    assert "PERMISSION_DENIED" in done.said
    assert "cannot tell whether jaxreid exists" in done.said
    assert done.verbs() == ["describe"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--zone is missing. It takes a zone"),
        (("--zone=z", "--type=h100"), "--type is 'h100'; it takes v2-N"),
        (("--zone=z", "--name=A b"), "--name is 'A b'; it takes small letters"),
        (("--zone",), "--zone takes a value"),
        (("--zone=z", "--spot=yes"), "--spot is a switch"),
    ],
)
def test_options_of_a_vm_are_checked_before_anything_is_called(tmp_path, options, message):
    done = harness.Launch(tmp_path, "tpu_vm.sh", *options, "--", *harness.TRAIN).run()
    if options == ("--zone",):  # takes -- for its value
        message = "is no option of this script"
    assert done.code == 2
    assert message in done.said
    assert not done.calls()


def _pod(folder, *options, **scenario):
    return _vm(folder, *options, script="tpu_pod.sh", **{"hosts": 2, **scenario})


def test_all_hosts_of_a_slice_are_started(tmp_path):
    states = ["ABSENT", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    done = _pod(tmp_path, "--spot", "--type=v6e-16", train=harness.ODD, states=states).run()
    assert done.code == 0, done.said
    made = ["--accelerator-type", "v6e-16", "--runtime-version", "v2-alpha-tpuv6e", "--spot"]
    (created,) = done.gcloud("create")
    assert created[5:] == ["jaxreid", "--node-id", "jaxreid", *made, "--zone", "z"]
    assert done.trainings() == [["train", *harness.ODD]] * 2
    for state in states:
        assert f"jaxreid: {state}" in done.said


def test_a_slice_that_was_taken_away_is_asked_for_again(tmp_path):
    states = ["ACTIVE", "SUSPENDING", "SUSPENDED", "ABSENT", "ACTIVE"]
    scenario = {"codes-0": [75, 0], "codes-1": [75, 0]}
    done = _pod(tmp_path, "--spot", states=states, **scenario).run()
    assert done.code == 0, done.said
    assert len(done.gcloud("create")) == 1
    (deleted,) = done.gcloud("delete")
    assert deleted[5:] == ["jaxreid", "--force", "--quiet", "--zone", "z"]
    assert len(done.trainings()) == 4


def test_hosts_start_again_together_after_a_crash_of_one(tmp_path):
    scenario = {"codes-0": [69, 69], "codes-1": [-9, -9]}
    done = _pod(tmp_path, "--restarts=1", states=["ACTIVE"], **scenario).run()
    assert done.code == 137
    assert len(done.trainings()) == 4
    assert "worker 0 of 2: code 69" in done.said
    assert "worker 1 of 2: code 137" in done.said
    assert "crashed with code 137 (signal KILL); restart 1 of 1 of all hosts" in done.said
    assert "--restarts 1 are used up" in done.said


def test_an_explained_error_of_a_slice_ends_it(tmp_path):
    scenario = {"codes-0": [69], "codes-1": [1]}
    done = _pod(tmp_path, "--delete", states=["ACTIVE"], **scenario).run()
    assert done.code == 1
    assert len(done.trainings()) == 2
    assert "to start again would change nothing" in done.said
    assert done.verbs()[-1] == "delete"


def test_ctrl_c_at_one_host_of_a_slice_ends_it(tmp_path):
    scenario = {"codes-0": [75], "codes-1": [130]}
    done = _pod(tmp_path, states=["ACTIVE"], **scenario).run()
    assert done.code == 130
    assert len(done.trainings()) == 2


def test_a_request_that_failed_is_reported(tmp_path):
    done = _pod(tmp_path, states=["ABSENT", "FAILED"]).run()
    assert done.code == 1
    assert "the request failed" in done.said
    assert not done.gcloud("ssh")
