"""The loop around the step, with a step so small that it compiles at once."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreid import compilation, loop
from jaxreid.data import feed
from jaxreid.models.templates import choose_template
from tests.jaxreid import tiny, watching


@functools.partial(jax.jit, static_argnames="template", donate_argnums=0)
def _count(state, resident, batch, *, template):
    """A step that adds up what it sees."""
    seen = feed.gather(resident, batch)
    loss = seen["images"].mean(dtype=jnp.float32) + seen["tokens"][..., : template.length].sum()
    return {"step": state["step"] + 1, "sum": state["sum"] + loss}, {"loss": loss}


class Loop:
    """The loop on made-up data, with all that it needs."""

    def __init__(self, kind="device", devices=8):
        config, mesh = tiny.config(), tiny.mesh(devices)
        data = tiny.split()
        self.feed = tiny.make_feed(config, data, mesh, kind)
        self.templates = tiny.row_templates(config, data, mesh)
        self.programs = compilation.Programs(_count, "counting")
        place = self.feed.resident["labels"].sharding
        self.state = jax.device_put({"step": jnp.zeros((), int), "sum": jnp.zeros(())}, place)
        self.reports = []

    def plan(self, start, stop):
        return loop.plan(self.programs, self.templates, self.feed, self.state, start, stop)

    def report(self, step, window):
        self.reports.append((step, [float(scalars["loss"]) for scalars in window]))

    def run(self, start, stop, every=4):
        planned = self.plan(start, stop)
        self.state = loop.run_steps(
            planned, self.feed, self.state, start, every=every, report=self.report
        )


@pytest.fixture
def compiled():
    with watching.compilations() as seen:
        yield seen


@pytest.fixture
def fetched():
    with watching.guarded_steps() as seen:
        yield seen


@pytest.mark.parametrize("kind", ["device", "sharded", "host"])
def test_steps_are_started_without_a_word_between_host_and_devices(fetched, kind):
    made = Loop(kind)
    made.run(0, 9)
    assert [(step, len(losses)) for step, losses in made.reports] == [(4, 4), (8, 4), (9, 1)]
    assert int(made.state["step"]) == 9
    assert fetched == []


def test_the_guard_of_these_tests_sees_a_transfer_and_a_fetch(fetched):
    made = Loop(devices=1)
    (program,) = set(made.plan(0, 1))
    batch = jax.device_get(next(made.feed.batches(0, 1))[0])
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        loop.dispatch(made.state, made.feed.resident, [(program, batch)])
    loop.dispatch(made.state, made.feed.resident, (float(made.state["sum"]) for _ in range(0)))
    assert fetched == []

    def fetching():
        float(made.state["sum"])
        yield from ()

    loop.dispatch(made.state, made.feed.resident, fetching())
    assert fetched == [()]


def test_reports_are_due_at_multiples_wherever_it_begins():
    made = Loop(devices=1)
    made.run(0, 3)
    made.run(3, 10)
    assert [(step, len(losses)) for step, losses in made.reports] == [
        (3, 3),
        (4, 1),
        (8, 4),
        (10, 2),
    ]
    whole = Loop(devices=1)
    whole.run(0, 10, every=10)
    assert whole.reports[0][1] == [loss for _, losses in made.reports for loss in losses]


@pytest.mark.parametrize("kind", ["device", "host"])
def test_told_to_halt_it_starts_no_further_step_and_reports_those_before(kind):
    made, asked = Loop(kind, devices=1), []

    def halts(step):
        asked.append(step)
        return step == 6

    made.state = loop.run_steps(
        made.plan(0, 9), made.feed, made.state, 0, every=4, report=made.report, halts=halts
    )
    assert asked == [0, 1, 2, 3, 4, 5, 6]
    assert int(made.state["step"]) == 6
    assert [(step, len(losses)) for step, losses in made.reports] == [(4, 4), (6, 2)]
    made.run(6, 9)
    whole = Loop(kind, devices=1)
    whole.run(0, 9)
    assert float(made.state["sum"]) == float(whole.state["sum"])


def test_halted_between_reports_it_reports_no_empty_window():
    made = Loop(devices=1)
    for stop in (0, 4):
        loop.run_steps(
            made.plan(0, 9),
            made.feed,
            Loop(devices=1).state,
            0,
            every=4,
            report=made.report,
            halts=lambda step, stop=stop: step == stop,
        )
    assert [step for step, _ in made.reports] == [4]


def test_what_the_next_steps_need_is_compiled_before_them_and_nothing_else(compiled):
    made = Loop(devices=1)
    chosen = [choose_template(made.templates, made.feed.lengths(step)) for step in range(40)]
    changes = [step for step, (a, b) in enumerate(itertools.pairwise(chosen), 1) if a != b]
    first = changes[0]  # steps before need one template, the next one another
    assert first >= 1
    jnp.zeros(()).block_until_ready()
    for start, stop in ((0, first), (first, 40)):
        planned = made.plan(start, stop)
        needed = {chosen[step] for step in range(stop)}
        assert [index in made.programs for index in range(len(made.templates))] == [
            index in needed for index in range(len(made.templates))
        ]
        compiled.clear()
        made.state = loop.run_steps(
            planned, made.feed, made.state, start, every=100, report=made.report
        )
        assert compiled == []
    made.plan(0, 40)
    assert compiled == []
    assert len(made.reports[1][1]) == 40 - first
    assert np.isfinite(made.reports[1][1]).all()
