"""How processes find each other, and what they tell each other; two of them, without a network."""

import pytest

from jaxreid import hosts
from tests.jaxreid import processes

TALK = """
import sys
import jax
from jaxreid import hosts

port, me = sys.argv[1], int(sys.argv[2])
assert not hosts.joined()
hosts.join(f"127.0.0.1:{port}", 2, me)
assert hosts.joined() and hosts.are_several() and hosts.is_first() == (me == 0)
print("agreed", hosts.agree([0.1, 7.0][me]) == 0.1)
print("together", hosts.together(lambda: me + 5))
hosts.by_first(lambda: print("the first alone"))


def fails_on_the_second():
    if me == 1:
        raise OSError("no room on its disk")


try:
    hosts.together(fails_on_the_second)
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
try:
    hosts.by_first(lambda: int("nine"))
except ValueError as error:
    print(error)
hosts.wait_for_all("the end")
sys.exit(hosts.leave(7))
"""


def test_two_processes_agree_and_fail_together(tmp_path):
    port = str(processes.free_port())
    commands = [["-c", TALK, port, str(index)] for index in range(2)]
    codes, (first, second) = processes.Processes(commands, devices=1, folder=tmp_path).wait(120)
    assert codes == [7, 7], (first, second)
    for me, said in enumerate((first, second)):
        assert "agreed True" in said
        assert f"together {me + 5}" in said
    assert "the first alone" in first
    assert "the first alone" not in second
    assert "ValueError process 1 of 2 could not go on: no room on its disk" in first
    assert "OSError no room on its disk" in second
    assert "invalid literal for int()" in first
    assert "process 0 of 2 could not go on: invalid literal for int()" in second


def test_one_process_does_everything_itself():
    assert hosts.is_first()
    assert not hosts.are_several()
    assert not hosts.joined()
    assert hosts.agree(0.1) == 0.1
    assert hosts.together(lambda: "done") == "done"
    done = []
    hosts.by_first(lambda: done.append(1))
    assert done == [1]
    hosts.wait_for_all("nothing")
    assert hosts.leave(3) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("10.0.0.2:80", None, None), "--num_processes, --process_id is missing"),
        (("", 2, 0), "--coordinator is missing"),
        (("10.0.0.2", 2, 0), r"--coordinator is '10.0.0.2'; it takes HOST:PORT"),
        (("host:", 2, 0), "--coordinator is 'host:'; it takes HOST:PORT"),
        (("host:80", 2, 2), "--process_id is 2 of 2; it counts from 0"),
        (("host:80", 2, -1), "--process_id is -1 of 2"),
    ],
)
def test_says_what_is_wrong_with_the_others_address(given, message):
    with pytest.raises(ValueError, match=message):
        hosts.join(*given)


@pytest.mark.parametrize(
    ("variables", "chips", "joins"),
    [
        ({}, [], False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, [], False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, [], True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, [], False),
        ({"TPU_WORKER_HOSTNAMES": "one,two"}, [], True),
        ({"TPU_WORKER_HOSTNAMES": "one,two", "JAX_PLATFORMS": "cpu"}, [], False),
        ({}, ["/dev/accel0"], True),
        ({"JAX_PLATFORMS": "cpu"}, ["/dev/accel0"], False),
    ],
)
def test_what_starts_several(surroundings, variables, chips, joins):
    asked = surroundings(variables, chips)
    hosts.join()
    assert len(asked) == joins


@pytest.mark.parametrize("error", [ValueError("coordinator_address should be defined."), OSError()])
def test_a_tpu_machine_that_knows_of_no_others_is_one_by_itself(surroundings, error):
    surroundings({}, ["/dev/accel0"], error)
    hosts.join()
    surroundings({"SLURM_STEP_NUM_TASKS": "4"}, [], ValueError("no"))
    with pytest.raises(ValueError, match="did not find each other"):
        hosts.join()


def test_others_that_do_not_come_are_an_error(surroundings):
    surroundings({}, ["/dev/accel0"], RuntimeError("Barrier timed out"))
    with pytest.raises(ValueError, match=r"did not find each other \(Barrier timed out\)"):
        hosts.join()


@pytest.fixture
def surroundings(monkeypatch):
    """Makes variables and chips those of another machine; returns what JAX is asked for."""

    def make(variables, chips, error=None):
        for name in ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES", "JAX_PLATFORMS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(hosts.glob, "glob", lambda pattern: chips if "accel" in pattern else [])
        monkeypatch.setattr(hosts.importlib.util, "find_spec", lambda name: name == "libtpu")
        asked = []

        def initialize(*given, **more):
            asked.append((given, more))
            if error is not None:
                raise error

        monkeypatch.setattr(hosts.jax.distributed, "initialize", initialize)
        return asked

    return make
