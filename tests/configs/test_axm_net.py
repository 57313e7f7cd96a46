"""Every preset and variant of AXM-Net builds its network, its objectives and its optimisers."""

import functools
import json
import re

import jax
import pytest

from configs import axm_net
from jaxreid import config as config_lib
from jaxreid import freezing, optimizers, registry, step
from jaxreid.models.axm_net import AXMNet
from jaxreid.models.layers import count_parameters

VOCABULARY = 5_000
NLA, PART_NETWORK, FC = 526_592, 33_312, 263_680
GATES = 8_036
WHOLE = 5_431_876  # the specification's, word table left out
NO_PART = -(PART_NETWORK + FC)

# Parameters without classifier and word table, worked out from those of the parts.
COUNTS = {
    "": WHOLE,
    "baseline": WHOLE + GATES - NLA + NO_PART,
    "id": WHOLE,
    "id_affinity": WHOLE,
    "id_triplet": WHOLE,
    "share": WHOLE - NLA + NO_PART,
    "part": WHOLE - NLA + GATES,
    "nla": WHOLE + NO_PART + GATES,
    "share_nla": WHOLE + NO_PART,
    "share_part": WHOLE - NLA,
    "unified_visual": WHOLE - 2 * FC,
    "single_stage": WHOLE,
    "strips_separate": WHOLE + 6 * PART_NETWORK,
    "strips_shared": WHOLE,
    "gap": WHOLE,
    "gmp": WHOLE,
    "drop_random": WHOLE,
    "drop_part": WHOLE,
    "drop_none": WHOLE,
    "fc1": WHOLE - FC,
    "fc2": WHOLE + 2 * FC,
    "fc_proposed": WHOLE,
    "no_share": WHOLE + GATES,
    "no_part": WHOLE + NO_PART,
    "no_nla": WHOLE - NLA,
    "one_stage": WHOLE,
    # 8 mid -> mid -> 8 mid in place of mid -> mid / 16 -> mid, two blocks of 64, 96 and 128.
    "joint": WHOLE - GATES + sum(2 * (16 * mid * mid + 9 * mid) for mid in (64, 96, 128)),
    "word2vec": WHOLE,
    "bfloat16": WHOLE,
}
REAL = ("cuhk_pedes", "cross_re_id", "cuhk_sysu_pedes", "market1501_pedes")
DRAWN = ("quickstart", "synth_pedes")
# Tracing a network takes seconds: those that differ most are looked at each time.
QUICK = ("", "baseline", "joint", "word2vec")


def _row(*words):
    quick = words[-1] in QUICK and words[0] in (*QUICK, "cuhk_pedes", "quickstart")
    return pytest.param(*words, marks=() if quick else pytest.mark.slow)


ALL = [_row(preset, variant) for preset in axm_net.DATASETS for variant in COUNTS]


def get_config(*words):
    return axm_net.get_config(",".join(filter(None, words)))


@functools.cache
def _shapes(model, size):
    config = get_config("cuhk_pedes")
    config.data.image_size = size
    return jax.eval_shape(functools.partial(step.init_variables, config, model))["params"]


def shapes(config):
    model = registry.build_model(config, vocab_size=VOCABULARY, num_classes=0)
    return _shapes(model, tuple(config.data.image_size))


def test_every_variant_has_a_row():
    assert set(COUNTS) == {"", *axm_net.VARIANTS}


@pytest.mark.parametrize("variant", [_row(variant) for variant in COUNTS])
def test_parameter_count(variant):
    params = shapes(get_config("cuhk_pedes", variant))
    assert count_parameters(params) - count_parameters(params["embedding"]) == COUNTS[variant]


@pytest.mark.parametrize(("preset", "variant"), ALL)
def test_stages_fit_the_network(preset, variant):
    config = get_config(preset, variant)
    config_lib.check(config)
    params = shapes(config)
    for stage in config.stages:
        assert callable(registry.build_objective(config, stage))
        optimizers.make_optimizer(stage, params, steps_per_epoch=10)
    last = freezing.frozen_names(config.stages[-1], params)
    assert last == ({"embedding/embedding"} if variant == "word2vec" else set())


@pytest.mark.parametrize("preset", REAL)
def test_the_two_stages_of_the_paper(preset):
    first, second = get_config(preset).stages
    assert (first.epochs, first.decay_epochs) == (30, (20,))
    assert (second.epochs, second.decay_epochs) == (60, (20, 40))
    for stage in (first, second):
        assert (stage.optimizer, stage.learning_rate) == ("sgd", 0.01)
        assert (stage.momentum, stage.weight_decay) == (0.9, 5e-4)
    assert first.objective.to_dict() == {"triplet_weight": 0.0, "affinity_weight": 0.0}
    assert not second.objective


def of_stage(config, index):
    names = freezing.frozen_names(config.stages[index], shapes(config))
    return {name.split("/")[0] for name in names}


def test_what_the_first_stage_freezes():
    vision = {"vision", *(f"context{index}" for index in range(1, 7))}
    assert of_stage(get_config("cuhk_pedes"), 0) == vision
    separate = get_config("cuhk_pedes", "no_share")
    assert of_stage(separate, 0) == vision
    names = freezing.frozen_names(separate.stages[0], shapes(separate))
    assert not any(re.match(r"context\d/text", name) for name in names)
    assert of_stage(get_config("cuhk_pedes", "joint"), 0) == {"vision"}
    assert of_stage(get_config("cuhk_pedes", "word2vec"), 0) == {*vision, "embedding"}


@pytest.mark.parametrize("preset", DRAWN)
def test_nothing_is_pretrained_on_drawn_people_so_vision_is_trained_first(preset):
    config = get_config(preset)
    assert of_stage(config, 0) == {"text", "embedding", "fc_text", "non_local"}
    assert config.stages[0].objective.text_id_weight == 0
    assert "vision" in of_stage(config, 1)
    assert not config.augment.flip


def test_one_stage_takes_as_long_as_all():
    for preset in ("cuhk_pedes", "quickstart"):
        config, single = get_config(preset), get_config(preset, "one_stage")
        assert len(single.stages) == 1
        total = sum(stage.epochs for stage in config.stages)
        assert single.stages[0].epochs == total
        left = [total - epoch for epoch in single.stages[0].decay_epochs]
        assert left == [config.stages[-1].epochs - e for e in config.stages[-1].decay_epochs]


@pytest.mark.parametrize("variant", axm_net.ROWS)
def test_rows_of_tables_5_and_6_have_the_identity_loss_only(variant):
    objective = get_config("cuhk_pedes", variant).objective
    pairs = {"id_affinity": (0, 1), "id_triplet": (1, 0)}.get(variant, (0, 0))
    assert (objective.triplet_weight, objective.affinity_weight) == pairs


def test_two_rows_are_refused():
    with pytest.raises(ValueError, match="'share' and 'gap', which undo one another"):
        get_config("cuhk_pedes", "share", "gap")


@pytest.mark.parametrize(("preset", "variant"), ALL)
def test_runlocal_shrinks_everything(preset, variant):
    config = get_config(preset, variant, "runlocal")
    params = shapes(config)
    assert count_parameters(params) - count_parameters(params["embedding"]) < 60_000
    assert config.model.max_tokens == config.data.max_tokens <= 56
    assert all((stage.epochs, stage.max_steps) == (1, 20) for stage in config.stages)
    plain = get_config(preset, variant).data.name
    assert config.data.name == ("synth_pedes/tiny" if preset in DRAWN else plain)


@pytest.mark.parametrize("preset", axm_net.DATASETS)
def test_json_reads_back(preset, tmp_path):
    config = get_config(preset)
    config_lib.save(config, tmp_path)
    assert config_lib.differences(config, config_lib.load(tmp_path)) == []
    json.loads((tmp_path / "config.json").read_text())


def test_defaults_are_those_of_the_module():
    config = get_config("cuhk_pedes")
    built = registry.build_model(config, vocab_size=VOCABULARY, num_classes=0)
    assert built == AXMNet(vocab_size=VOCABULARY)
