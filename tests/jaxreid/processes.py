"""Runs of the command line as processes of their own, one or several that find each other."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 400  # seconds; two cores compile four programs in it


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(devices):
    """Variables of a process that sees so many devices and compiles in seconds."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
    }


class Processes:
    """Python programs that run at the same time, on virtual CPU devices."""

    def __init__(self, commands, *, devices, folder):
        self.outputs = [pathlib.Path(folder) / f"output{index}" for index in range(len(commands))]
        self.processes = []
        for command, path in zip(commands, self.outputs, strict=True):
            with path.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        env=environment(devices),
                        cwd=ROOT,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )

    def kill(self, index):
        self.processes[index].send_signal(signal.SIGKILL)

    def wait(self, timeout=TIMEOUT):
        """Returns exit codes and outputs when all have ended; ends them when they take longer."""
        end = time.monotonic() + timeout
        try:
            for process in self.processes:
                process.wait(max(0.1, end - time.monotonic()))
        finally:
            for process in self.processes:
                process.kill()
        return [p.returncode for p in self.processes], [p.read_text() for p in self.outputs]


def train(workdir, config, *, processes=1, devices=4):
    """Starts ``jaxreid train``; returns the processes."""
    words = ["train", "--workdir", str(workdir), *config]
    return jaxreid(words, folder=workdir.parent, processes=processes, devices=devices)


def jaxreid(words, *, folder, processes=1, devices=4):
    """Starts ``jaxreid``; returns the processes."""
    words = ["-m", "jaxreid.cli", *words]
    if processes == 1:
        return Processes([words], devices=devices, folder=folder)
    where = ["--coordinator", f"127.0.0.1:{free_port()}", "--num_processes", str(processes)]
    commands = [[*words, *where, "--process_id", str(index)] for index in range(processes)]
    return Processes(commands, devices=devices, folder=folder)
