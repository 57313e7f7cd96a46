"""Commands of clouds and clusters that write down what they were given and play a scenario.

A stub is this file under another name (`gcloud`, `srun`, ...) in a folder of its own, first on
PATH.
What it is given stands in `calls.jsonl`, a line a call; what it answers comes from `scenario.json`,
where a list is used up one by one and its last element stays.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
"""The folder of the stubs: of the test, once it is installed there."""


def install(folder, **scenario):
    """Puts the stubs into `folder` and returns the environment in which they are found."""
    folder.mkdir(parents=True)
    code = f"#!{sys.executable} -ES\n" + pathlib.Path(__file__).read_text()
    for name in STUBS:
        (folder / name).write_text(code)
        (folder / name).chmod(0o755)
    sleep = folder / "sleep"  # pauses and polls of scripts pass quickly
    sleep.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.05\n")
    sleep.chmod(0o755)
    (folder / "calls.jsonl").touch()
    (folder / "scenario.json").write_text(json.dumps(scenario))
    environment = {**os.environ, "HF_TOKEN": "hf_secretsecret", "HOME": str(folder / "home")}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    environment["JAXREID"] = str(folder / "jaxreid")
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_SUBMIT_DIR", "SLURM_JOB_ID"):
        environment.pop(name, None)
    (folder / "home").mkdir()
    return environment


def calls(folder, name=None):
    """What the stubs, or the one of this name, were given: lists of words, the name first."""
    lines = (folder / "calls.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [words for words in found if name in (None, words[0])]


def _write_down(words):
    with (HERE / "calls.jsonl").open("a") as file:
        file.write(json.dumps(words) + "\n")


def _next(key, default):
    """The next of the scenario's list of this key."""
    listed = json.loads((HERE / "scenario.json").read_text()).get(key, [default])
    count = HERE / f"count-{key}"
    used = int(count.read_text()) if count.exists() else 0
    count.write_text(str(used + 1))
    return listed[min(used, len(listed) - 1)]


def _hosts():
    return json.loads((HERE / "scenario.json").read_text()).get("hosts", 1)


def _jaxreid(words):
    """Ends as the scenario says of `codes`, or of `codes-I` in process or on worker I.

    A negative code is that of a signal; "wait" waits for SIGTERM and then ends with 75, "deaf" does
    not hear it; "late" ends with 1 after a second; "all killed" takes along whoever waits for its
    code.
    """
    process = os.environ.get("STUB_WORKER") if _hosts() > 1 else None
    if "--process_id" in words:
        process = words[words.index("--process_id") + 1]
    _write_down(["jaxreid", *words])
    end = _next("codes" if process is None else f"codes-{process}", 0)
    if end == "wait":
        signal.signal(signal.SIGTERM, _stop)
    elif end == "all killed":
        _end_session(os.getsid(0))
    elif end == "late":
        time.sleep(1)
        return 1
    elif end == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        print(f"jaxreid ends with {end}", flush=True)
        if end < 0:
            os.kill(os.getpid(), -end)
        return end
    note = HERE / f"waits-{process}"
    note.with_suffix(".new").write_text(str(os.getpid()))
    note.with_suffix(".new").rename(note)
    time.sleep(60)
    return 3


def _stop(*_):
    """As a run: the first signal has it save and end with 75, another one ends it at once."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    time.sleep(0.3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Python's own end takes a while
    sys.exit(75)


def _gcloud(words):
    _write_down(["gcloud", *words])
    if "describe" in words:
        state = _next("states", "READY")
        if state == "ABSENT":
            print("ERROR: NOT_FOUND: Resource 'x' was not found", file=sys.stderr)
        if state == "DENIED":
            print("ERROR: PERMISSION_DENIED: you may not", file=sys.stderr)
        if state in ("ABSENT", "DENIED"):
            return 1
        print(state)
    if "delete" in words:
        end_workers(HERE)
    if "ssh" in words or "scp" in words:
        if _next("reachable", True) is False:
            return 255
        return max(_on_worker(words, worker) for worker in _workers(words))
    return 0


def end_workers(folder):
    """Takes the machines away, with all that runs on them."""
    for home in folder.glob("worker-*"):
        if (pid := home / "jaxreid-run" / "pid").exists():
            _end_session(int(pid.read_text()))
        shutil.rmtree(home)


def _end_session(leader):
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(int(process.name)) == leader:
                os.kill(int(process.name), signal.SIGKILL)


def _workers(words):
    (chosen,) = (word.partition("=")[2] for word in words if word.startswith("--worker="))
    return range(_hosts()) if chosen == "all" else [int(chosen)]


def _on_worker(words, worker):
    home = HERE / f"worker-{worker}"
    home.mkdir(exist_ok=True)
    if "scp" in words:
        source, target = words[words.index("scp") + 1 :][:2]
        copy = pathlib.Path(source).read_bytes()
        (home / target.partition(":")[2]).write_bytes(copy)
        return 0
    command = words[words.index("--command") + 1]
    environment = {**os.environ, "HOME": str(home), "STUB_WORKER": str(worker)}
    return subprocess.run(
        ["bash", "-c", command], cwd=home, env=environment, check=False
    ).returncode


def _curl(words):
    """The metadata server of a slice."""
    if words[-1].endswith("agent-worker-number"):
        print(os.environ["STUB_WORKER"])
    else:
        print(",".join(f"node:{i}:10.0.0.{i}" for i in range(_hosts())))
    return 0


def _srun(words):
    _write_down(["srun", *words])
    program = next(i for i, word in enumerate(words) if not word.startswith("--"))
    return subprocess.run(words[program:], check=False).returncode


def _kubectl(words):
    _write_down(["kubectl", *words])
    if words[0] == "apply":
        (HERE / "applied.yaml").write_text(sys.stdin.read())
    if words[:2] == ["get", "jobset"]:
        return 0 if _next("jobset", False) else 1
    return 0


def _note(name):
    def note(words):
        _write_down([name, *words])
        return 0

    return note


STUBS = {
    "jaxreid": _jaxreid,
    "gcloud": _gcloud,
    "curl": _curl,
    "srun": _srun,
    "kubectl": _kubectl,
    "scontrol": _note("scontrol"),
    "docker": _note("docker"),
}

if __name__ == "__main__":
    sys.exit(STUBS[pathlib.Path(sys.argv[0]).name](sys.argv[1:]))
