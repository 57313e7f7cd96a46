"""Runs a launch script among stubs."""

import pathlib
import signal
import subprocess
import time

from tests.launch import stubs

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
TRAIN = ["--config", "configs/ssan.py:quickstart", "--workdir", "gs://bucket/runs/one"]
ODD = [
    *("--config", "my configs/a.py:b", "--workdir", '/disk/it\'s "mine"/$HOME `x` & @NAME@ \\n'),
    "--config.data.name=two  spaces;*",
]


class Launch:
    """A script in a folder of stubs: what it did."""

    def __init__(self, folder, script, *words, environment=(), **scenario):
        self.folder = folder / "stubs"
        self.command = ["bash", LAUNCH / script, *words]
        self.environment = {**stubs.install(self.folder, **scenario), **dict(environment)}

    def run(self):
        done = subprocess.run(
            self.command, env=self.environment, capture_output=True, text=True, timeout=120
        )
        self.code, self.out, self.said = done.returncode, done.stdout, done.stderr
        secret = self.environment["HF_TOKEN"]
        assert secret not in self.out + self.said + (self.folder / "calls.jsonl").read_text()
        return self

    def start(self):
        pipe = subprocess.PIPE
        # Tests that run in the background of a shell ignore SIGINT, and bash could not trap what
        # it inherits as ignored. A handler of ours does not survive exec, which leaves the default.
        # (preexec_fn would fork in Python, of which JAX warns.)
        kept = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=pipe,
                stderr=pipe,
                text=True,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, kept)

    def calls(self, name=None):
        return stubs.calls(self.folder, name)

    def trainings(self):
        return [words[1:] for words in self.calls("jaxreid")]

    def gcloud(self, *verbs):
        """The calls of gcloud with this verb, such as create."""
        return [words for words in self.calls("gcloud") if words[4] in verbs]

    def verbs(self):
        return [words[4] for words in self.calls("gcloud")]


def wait_for(path):
    """Returns when another process has written this file."""
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")
