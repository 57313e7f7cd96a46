"""Signals and notices that tell a run to stop."""

import contextlib
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from jaxreid import preemption

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_cloud(monkeypatch):
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_remembered_and_a_second_interrupt_ends_the_process(number):
    before = signal.getsignal(number)
    with preemption.Stopper() as stopper:
        stopper.begin()
        assert not stopper.reached(3)
        assert not stopper.stopped
        os.kill(os.getpid(), number)
        assert stopper.reached(4)
        assert stopper.stopped
        assert stopper.cause == number.name
        os.kill(os.getpid(), signal.SIGTERM)  # of a launcher, or of a system that shuts down
        assert stopper.cause == number.name
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(number) == before


def test_before_training_a_signal_ends_it_at_once():
    with preemption.Stopper() as stopper:
        with pytest.raises(preemption.StoppedBeforeTraining):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.cause == "SIGTERM"


def test_outside_the_main_thread_no_signal_is_taken():
    seen = []

    def use():
        with preemption.Stopper() as stopper:
            seen.append(stopper.reached(1))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [False]


class Metadata:
    """A metadata server with answers that a test changes; to an empty one it is an error to ask."""

    def __init__(self):
        self.answers = {"maintenance-event": "NONE", "preempted": "FALSE"}
        self.flavors, outer = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.flavors.append(self.headers["Metadata-Flavor"])
                name = self.path.removeprefix("/computeMetadata/v1/instance/")
                answer = outer.answers[name]
                self.send_response(200 if answer else 503)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def wait_for_questions(self, count, stopper=None):
        """Returns after so many, or when the stopper was told to stop, which ends them."""
        until = len(self.flavors) + count
        while len(self.flavors) < until and not (stopper and stopper.cause):
            time.sleep(0.001)


@pytest.fixture
def metadata():
    with Metadata().running() as server:
        yield server


@pytest.mark.parametrize(
    ("name", "word"),
    [("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE"), ("preempted", "TRUE")],
)
def test_a_notice_of_the_machine_becomes_sigterm(metadata, monkeypatch, name, word):
    monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked
    monkeypatch.setattr(preemption.NoticeWatch.__init__, "__defaults__", (0.001,))
    with preemption.Stopper() as stopper:
        stopper.begin()
        metadata.wait_for_questions(4)
        assert not stopper.reached(1)
        metadata.answers[name] = word
        deadline = time.monotonic() + 60
        while not stopper.reached(2):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert stopper.cause == "SIGTERM"
    assert set(metadata.flavors) == {"Google"}


@pytest.mark.parametrize("word", ["TERMINATE_ON_HOST_MAINTENANCE", "MIGRATE_ON_HOST_MAINTENANCE"])
def test_what_stood_at_the_start_or_moves_the_machine_alive_stops_nothing(metadata, word):
    metadata.answers["maintenance-event"] = word
    watch = preemption.NoticeWatch(metadata.host, every=0.001)
    with preemption.Stopper() as stopper:
        stopper.begin()
        watch.start()
        metadata.wait_for_questions(20)
        watch.stop()
        assert not stopper.reached(1)


@pytest.mark.parametrize("word", ["", "NONE"])
def test_a_question_that_failed_makes_an_old_notice_no_new_one(metadata, word):
    """Unlike the answer that none stands any more."""
    notice = "TERMINATE_ON_HOST_MAINTENANCE"
    metadata.answers["maintenance-event"] = notice
    watch = preemption.NoticeWatch(metadata.host, every=0.001)
    with preemption.Stopper() as stopper:
        stopper.begin()
        watch.start()
        for answer in (notice, word, notice):
            metadata.answers["maintenance-event"] = answer
            metadata.wait_for_questions(8, stopper)
        watch.stop()
        assert stopper.reached(1) == bool(word)


def test_a_second_notice_beside_an_old_one_counts(metadata):
    metadata.answers["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    watch = preemption.NoticeWatch(metadata.host, every=0.001)
    with preemption.Stopper() as stopper:
        stopper.begin()
        watch.start()
        metadata.wait_for_questions(4)
        assert not stopper.reached(1)
        metadata.answers["preempted"] = "TRUE"
        metadata.wait_for_questions(100, stopper)
        watch.stop()
        assert stopper.reached(2)


def test_nobody_answers():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    assert preemption.NoticeWatch(host).ask() == {}


@pytest.mark.parametrize(
    ("product", "watched"), [("Google Compute Engine\n", True), ("KVM", False), (None, False)]
)
def test_only_machines_of_google_are_asked(tmp_path, monkeypatch, product, watched):
    monkeypatch.setattr(preemption, "_PRODUCT", tmp_path / "product_name")
    if product:
        (tmp_path / "product_name").write_text(product)
    assert (preemption.NoticeWatch.of_this_machine() is not None) == watched


_STEPS = """
import sys, time
from jaxreid import hosts
hosts.join(sys.argv[1], 2, int(sys.argv[2]))
from jaxreid import preemption
with preemption.Stopper() as stopper:
    stopper.begin()
    for step in range(100000):
        if stopper.reached(step):
            break
        if step == 3:
            print("running", flush=True)
        time.sleep(0.01 if sys.argv[2] == "0" else 0.011)
    print(step, stopper.cause, flush=True)
"""


def test_two_processes_stop_at_the_same_step():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _STEPS, address, str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        assert [process.stdout.readline() for process in both] == ["running\n"] * 2
        both[1].send_signal(signal.SIGTERM)
        ends = [process.communicate(timeout=100)[0].split() for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
            process.stdout.close()
    assert [process.returncode for process in both] == [0, 0]
    assert ends[0] == ends[1]
    assert int(ends[0][0]) > 3
    assert ends[0][1] == "SIGTERM"
