"""Plans of runs: by the compiler of the devices, for GPUs by counting, and what to change."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from jaxreid import cli, flops, plan, plan_advice, plan_targets
from jaxreid.bench import abstract, compiling, gpu, ideal, roofline, tpu
from tests.jaxreid import tiny

CONFIG = "configs/ssan.py:cuhk_pedes,baseline,runlocal"
GPU_COMPILER = gpu.has_compiler()
SIZES = abstract.Sizes(images=40, captions=80, num_ids=300, vocab_size=30)


@pytest.fixture(scope="module", autouse=True)
def _gpus_are_counted():
    """As where their compiler is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "has_compiler", lambda: False)
        yield


def _config(**fields):
    config = tiny.get_config("cuhk_pedes,baseline,runlocal")
    config.model.update({"width": 4, "global_dim": 8, "word_dim": 8})
    config.data.update({"max_tokens": 16, "length_templates": 1, "image_size": (32, 16)})
    config.update_from_flattened_dict(fields)
    return config


def _shape(shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def _count(function, *shapes):
    return ideal.count(jax.make_jaxpr(function)(*shapes))


def test_what_is_between_two_products_is_fused():
    x, w = _shape((16, 16)), _shape((16, 16))  # 1 KiB each
    found = _count(lambda x, w: jnp.tanh(x @ w + 1) @ w, x, w)
    # The first product, what the second takes, and the second.
    assert found.peak == 3 * 1024 - 1024  # the first is gone before the second is there
    assert found.moved == (2 + 1) * 1024 + (1 + 1) * 1024 + (2 + 1) * 1024


def test_what_the_backward_pass_needs_is_kept():
    def loss(w, x):
        for _ in range(5):
            x = jnp.tanh(x @ w)
        return x.sum()

    forward = _count(loss, _shape((16, 16)), _shape((16, 16))).peak
    backward = _count(jax.grad(loss), _shape((16, 16)), _shape((16, 16))).peak
    assert forward < 3 * 1024
    assert backward >= forward + 4 * 1024


def test_what_is_computed_again_is_not_kept():
    def block(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    def loss(w, x, block=block):
        for _ in range(6):
            x = block(x, w)
        return x.sum()

    again = jax.checkpoint(block, policy=jax.checkpoint_policies.nothing_saveable)
    kept = _count(jax.grad(loss), _shape((16, 16)), _shape((16, 16)))
    computed = _count(jax.grad(lambda w, x: loss(w, x, again)), _shape((16, 16)), _shape((16, 16)))
    assert computed.peak < 0.7 * kept.peak
    assert computed.moved > kept.moved


def test_a_loop_moves_what_its_body_does_as_often_as_it_runs():
    def run(x, w, length):
        return jax.lax.scan(lambda h, _: (h @ w, None), x, length=length)[0]

    x, w = _shape((16, 16)), _shape((16, 16))
    three, nine = (_count(lambda x, w, n=n: run(x, w, n), x, w) for n in (3, 9))
    assert nine.moved == 3 * three.moved
    assert nine.peak == three.peak


def test_a_lookup_reads_the_rows_that_it_finds():
    table, index = _shape((1000, 8)), _shape((4,), jnp.int32)
    found = _count(lambda table, index: table[index], table, index)
    assert found.moved < 1000


def test_arguments_in_whose_place_results_stand_take_nothing_more():
    found = _count(lambda x: x * 2, _shape((16, 16)))
    assert (found.peak, found.moved) == (0, 2048)


@pytest.fixture(scope="module")
def of_gpus():
    return plan.plan(_config(batch_per_device=8), "h100x4", sizes=SIZES)


def test_gpus_are_counted(of_gpus):
    numbers = of_gpus.numbers
    assert numbers["fits"]
    assert (numbers["batch_size"], numbers["batch_per_device"]) == (32, 8)
    assert numbers["roofline"]["device"] == flops.device("NVIDIA H100 80GB HBM3")
    assert numbers["memory"]["total"] == sum(
        numbers["memory"][name] for name in plan.PARTS if name in numbers["memory"]
    )
    # Adam keeps two moments of each parameter, and counts of its steps.
    assert numbers["memory"]["optimiser"] == pytest.approx(
        2 * numbers["memory"]["parameters"], rel=0.01
    )
    assert numbers["memory"]["data"] >= 40 * 32 * 16 * 3
    # All gradients go round, but what one device has of them.
    assert numbers["roofline"]["bytes_sent"] == pytest.approx(
        2 * 3 / 4 * numbers["memory"]["parameters"]
    )


def test_hours_are_those_of_all_steps(of_gpus):
    numbers = of_gpus.numbers
    assert numbers["steps"] == 3  # one epoch of 80 captions in batches of 32, the last one short
    config = _config()
    config.stages[0].update({"epochs": 7, "max_steps": 0})
    config.batch_size = 32
    assert plan.run_steps(config, SIZES) == 7 * 3
    config.data.sampling = "images"
    assert plan.run_steps(config, SIZES) == 7 * 2
    seconds = numbers["roofline"]["seconds"]
    assert numbers["hours"] == pytest.approx(3 * seconds / 3600)
    assert numbers["steps_per_hour"] == pytest.approx(3600 / seconds)


def test_the_table_says_that_it_is_an_estimate_by_counting(of_gpus, tmp_path):
    table = of_gpus.table()
    for word in (
        "estimate",
        "counted, not compiled",
        "at least",
        "XLA_PYTHON_CLIENT",
        "40 images",
        "bfloat16",
    ):
        assert word in table
    assert "what to change" not in table
    of_gpus.write_json(tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text())["devices"] == 4


def test_activations_grow_with_the_batch_and_nothing_else_does():
    target = plan_targets.find("h100x4")
    small, large = (
        plan_targets.counted(target, _config(batch_size=4 * pairs), SIZES) for pairs in (8, 16)
    )
    assert {k: v for k, v in small.held.items() if k != "batch"} == {
        k: v for k, v in large.held.items() if k != "batch"
    }
    assert 1.2 < large.work.peak / small.work.peak < 2.2
    assert small.flops.total < large.flops.total


def test_classifiers_are_shared_and_what_a_gpu_cannot_is_told():
    target = plan_targets.find("v100x4")
    fields = {"batch_size": 8, "dtype": "bfloat16"}
    whole, shared = (target.estimate(_config(**fields, **{"mesh.model": m}), SIZES) for m in (1, 4))
    assert "no units for bfloat16" in whole.notes[0]
    assert shared.parts["parameters"] < whole.parts["parameters"]
    assert shared.line.sent < whole.line.sent


MIB = 2**20


@dataclasses.dataclass
class _Stub:
    """Eight devices on which a pair takes 10 MiB, beside 100 MiB of parameters.

    Their compiler refuses more than `most` pairs, whatever they take.
    """

    usable: float
    most: int = 1000
    tried: list[int] = dataclasses.field(default_factory=list)
    topology: str = "stub"
    kind: str = "NVIDIA L4"
    count: int = 8
    platform: str = "gpu"

    @property
    def memory(self):
        return self.usable

    def estimate(self, config, sizes):
        pairs = config.batch_size // self.count
        self.tried.append(pairs)
        parts = {"parameters": 100 * MIB, "activations": 10 * MIB * pairs, "batch": 0}
        line = roofline.Roofline(1e12, 1e9, 0.0, flops.device(self.kind))
        return plan_targets.Estimate(parts, self.usable, pairs <= self.most, line, "device")


@pytest.mark.parametrize(
    ("usable", "pairs", "next_pairs", "tries"),
    [(100 + 219, 16, 24, 2), (100 + 160, 16, 24, 2), (100 + 59, 5, 6, 3), (100 + 9, 0, 1, 2)],
)
def test_the_largest_batch_that_fits_is_found(usable, pairs, next_pairs, tries):
    target = _Stub(usable * MIB)
    config = _config(batch_size=8 * 64)
    failed = target.estimate(config, SIZES)
    found = plan_advice.largest_batch(target, config, SIZES, failed)
    assert (found.pairs, found.next_pairs) == (pairs, next_pairs)
    assert len(target.tried) == 1 + tries
    if pairs:
        assert found.estimate.total == (100 + 10 * pairs) * MIB


@pytest.mark.parametrize(("most", "pairs", "next_pairs"), [(20, 16, 24), (5, 5, 6), (0, 0, 1)])
def test_what_is_refused_though_it_counts_as_little_is_not_guessed_to_fit(most, pairs, next_pairs):
    target = _Stub(10_000 * MIB, most)
    config = _config(batch_size=8 * 64)
    found = plan_advice.largest_batch(target, config, SIZES, target.estimate(config, SIZES))
    assert (found.pairs, found.next_pairs) == (pairs, next_pairs)


class _Squeezed(_Stub):
    """Whose compiler computes again what it has no room for, and nearly gets there."""

    def estimate(self, config, sizes):
        found = super().estimate(config, sizes)
        if found.total <= self.usable:
            return found
        nearly = found.total < 1.5 * self.usable
        total = 1.01 * self.usable if nearly else 0.7 * found.total
        return dataclasses.replace(found, parts={**found.parts, "activations": total - 100 * MIB})


def test_what_is_squeezed_nearly_into_the_limit_leads_to_no_small_steps():
    target = _Squeezed((100 + 2239) * MIB)
    config = _config(batch_size=8 * 512)
    found = plan_advice.largest_batch(target, config, SIZES, target.estimate(config, SIZES))
    assert (found.pairs, found.next_pairs) == (216, 224)
    assert found.estimate.total <= target.usable


def _planned(monkeypatch, usable):
    monkeypatch.setattr(plan_targets, "find", lambda *_: _Stub(usable * MIB))
    change = plan_advice.Change("--config.data.feed=host", "streamed", 300 * MIB, True)
    monkeypatch.setattr(plan_advice, "changes", lambda *_: [change])
    return plan.plan(_config(batch_per_device=64), "stub", sizes=SIZES)


def test_a_batch_too_large_is_told_with_the_number_that_fits(monkeypatch):
    told = _planned(monkeypatch, 100 + 219)
    numbers = told.numbers
    assert not numbers["fits"]
    assert numbers["advice"]["batch_per_device"]["pairs"] == 16
    assert numbers["advice"]["changes"][0]["option"] == "--config.data.feed=host"
    table = told.table()
    for word in ("does not fit", "--config.batch_per_device=16", "24 pairs do not", "0.29 GiB"):
        assert word in table


def test_memory_for_not_even_one_pair(monkeypatch):
    told = _planned(monkeypatch, 100)
    assert told.numbers["advice"]["batch_per_device"] == {"pairs": 0, "next_pairs": 1}
    assert "not even one pair" in told.table()


@pytest.mark.slow
def test_what_saves_memory_is_told_with_how_much():
    target = plan_targets.find("h100x4")
    sizes = dataclasses.replace(SIZES, images=1000)
    # So deep that what its blocks keep outweighs what the stem computes in.
    fields = {"batch_size": 4 * 64, "data.feed": "device", "model.stage_sizes": (3, 4, 6, 3)}
    config = _config(**fields)
    now = target.estimate(config, sizes)
    changes = {change.option: change for change in plan_advice.changes(target, config, sizes, now)}
    assert {*changes} == {
        "--config.mesh.model=4",
        "--config.model.remat=true",
        "--config.data.feed=sharded",
        "--config.data.feed=host",
        "--config.dtype=bfloat16",
    }
    assert all(change.total < now.total for change in changes.values())
    # Half of the images lie elsewhere: a group of two devices has room for all of them.
    saved = now.total - changes["--config.data.feed=sharded"].total
    assert saved == pytest.approx(1 / 2 * 1000 * 32 * 16 * 3)


def test_a_guess_is_on_the_line_through_the_points_nearest_to_the_limit():
    assert plan_advice._guess({0: 10.0, 64: 74.0}, 30.0) == 20
    assert plan_advice._guess({0: 10.0, 16: 30.0, 64: 174.0}, 60.0) == 26


@pytest.mark.parametrize("topology", ["b200x8", "h100x0", "h100x", "", "8xh100"])
def test_an_unknown_topology_is_answered_with_those_that_are(topology, capsys):
    assert cli.main(["plan", "--config", CONFIG, "--topology", topology]) == 1
    said = capsys.readouterr().err
    assert f"--topology is {topology!r}" in said
    assert "v5e:2x2, 2x4" in said
    assert "a100-40" in said


@pytest.mark.skipif(not tpu.has_compiler(), reason="libtpu is not installed")
def test_an_unknown_slice_is_answered_with_those_that_are(capsys):
    assert cli.main(["plan", "--config", CONFIG, "--topology", "v99:2x2"]) == 1
    said = capsys.readouterr().err
    assert "v5p:2x2x1" in said
    assert "h100" in said


def test_without_the_compiler_gpus_are_offered(monkeypatch, capsys):
    monkeypatch.setattr(tpu, "has_compiler", lambda: False)
    assert cli.main(["plan", "--config", CONFIG, "--topology", "v5e:2x4"]) == 1
    said = capsys.readouterr().err
    assert "pip install 'jaxreid[tpu-compiler]'" in said
    assert "h100x8" in said


def test_a_batch_that_the_devices_cannot_share_is_named(capsys):
    words = ["--topology", "l4x3", "--config.batch_size=16"]
    assert cli.main(["plan", "--config", CONFIG, *words]) == 1
    said = capsys.readouterr().err
    assert "config.batch_size is 16" in said
    assert "--config.batch_per_device=64" in said


def test_the_command_ends_with_1_where_it_does_not_fit(monkeypatch, capsys, tmp_path):
    def answer(fits):
        numbers = {"fits": fits}
        return lambda *args, **kwargs: plan.measure.Measured("estimate", numbers, [("a", "b")])

    words = ["plan", "--config", CONFIG, "--topology", "l4", "--json", str(tmp_path / "plan.json")]
    for fits, code in ((True, 0), (False, 1)):
        monkeypatch.setattr(plan, "plan", answer(fits))
        assert cli.main(words) == code
        assert "estimate" in capsys.readouterr().out
        assert json.loads((tmp_path / "plan.json").read_text()) == {"fits": fits}


@pytest.mark.slow
def test_a_step_is_compiled_for_a_tpu():
    if not tpu.has_compiler():
        pytest.skip("libtpu is not installed")
    found = plan.plan(_config(batch_per_device=2), "v5e:2x2", sizes=SIZES)
    numbers = found.numbers
    memory = numbers["memory"]
    assert numbers["fits"]
    assert (numbers["devices"], numbers["batch_size"]) == (4, 8)
    assert memory["total"] == pytest.approx(sum(memory[name] for name in plan.PARTS))
    assert memory["layout"] >= 0
    assert memory["optimiser"] == pytest.approx(2 * memory["parameters"], rel=0.01)
    assert 0 < numbers["hours"] < 1
    assert "compiled by the TPU's own compiler" in found.table()


@pytest.mark.slow
def test_a_batch_too_large_for_a_tpu_is_told_with_the_number_that_fits():
    if not tpu.has_compiler():
        pytest.skip("libtpu is not installed")
    target = plan_targets.find("v5e:2x2")
    enough, too_little = (
        target.estimate(_config(batch_size=4 * pairs), SIZES).total for pairs in (8, 16)
    )
    between = (enough + too_little) / 2
    told = plan.plan(_config(batch_per_device=16), "v5e:2x2", sizes=SIZES, memory=between)
    assert not told.numbers["fits"]
    assert told.numbers["advice"]["batch_per_device"]["pairs"] == 8


@pytest.mark.parametrize(("limit", "usable"), [(None, 16e9), (15e9, 15e9), (17e9, 16e9)])
def test_what_the_compiler_refuses_counts_as_it_says(monkeypatch, limit, usable):
    def refuse(step, pairs, topology):
        raise compiling.DoesNotFitError("too large", 17.5 * 2**30, limit)

    monkeypatch.setattr(compiling, "compile_step", refuse)
    chips = tuple(jax.devices()[:4])  # nothing is compiled for them
    target = plan_targets.Compiled("v5e:2x2", chips, 1.0, given=16e9)
    found = target.estimate(_config(batch_size=16), SIZES)
    assert not found.fits
    assert found.line is None
    assert (found.total, found.usable) == (17.5 * 2**30, usable)


@pytest.mark.slow
@pytest.mark.skipif(not GPU_COMPILER, reason="the compiler for GPUs is not installed")
def test_a_step_is_compiled_for_gpus(monkeypatch):
    counted = plan.plan(_config(batch_per_device=2), "h100x2", sizes=SIZES)
    monkeypatch.setattr(gpu, "has_compiler", lambda: True)
    found = plan.plan(_config(batch_per_device=2), "h100x2", sizes=SIZES)
    assert found.numbers["fits"]
    assert found.numbers["memory"]["usable"] == 0.75 * 80e9
    assert "compiled by XLA's compiler for GPUs" in found.table()
    for name in ("parameters", "optimiser", "statistics", "data", "batch"):
        assert found.numbers["memory"][name] == counted.numbers["memory"][name]
