"""Every preset and variant builds its network, with the exact number of parameters."""

import functools
import itertools
import json
import pathlib

import jax
import pytest
from ml_collections import ConfigDict

from configs import ssan
from jaxreid import config as config_lib
from jaxreid import optimizers, registry, step
from jaxreid.models.layers import count_parameters
from jaxreid.models.ssan import SSAN

VOCABULARY = 5_000
IDENTITIES = 11_003

# Parameters without classifiers, word tables of 5,000 rows: the full network, the quickstart's and
# that of a smoke run.
FULL = {
    "": 95_286_336,
    "baseline": 70_108_224,
    "pfl": 82_703_424,
    "pfl_prl": 95_286_336,
    "pfl_1x1": 85_849_152,
    "cr": 70_108_224,
    "unshared": 97_383_488,
    "vgg16": 37_724_992,
    "fixed_margin": 95_286_336,
    "released": 97_858_624,
    "bfloat16": 95_286_336,
    "remat": 95_286_336,
}
SMALL = {
    "": 1_842_640,
    "baseline": 858_832,
    "pfl": 1_056_208,
    "pfl_prl": 1_842_640,
    "pfl_1x1": 1_252_816,
    "cr": 858_832,
    "unshared": 1_875_408,
    "vgg16": 1_630_624,
    "fixed_margin": 1_842_640,
    "released": 2_165_712,
    "bfloat16": 1_842_640,
    "remat": 1_842_640,
}
SMOKE = {
    "": 226_280,
    "baseline": 201_320,
    "pfl": 213_992,
    "pfl_prl": 226_280,
    "pfl_1x1": 217_064,
    "cr": 201_320,
    "unshared": 228_328,
    "vgg16": 172_496,
    "fixed_margin": 226_280,
    "released": 306_664,
    "bfloat16": 226_280,
    "remat": 226_280,
}
COUNTS = {name: SMALL if name == "quickstart" else FULL for name in ssan.DATASETS}
VALUES = {"cross_domain": ("source=sysu", "target=market")}
DRAWN = ("quickstart", "synth_pedes")
ROWS = [(preset, variant) for preset in ssan.DATASETS for variant in ("", *ssan.VARIANTS)]


def get_config(preset, *variants):
    return ssan.get_config(",".join([preset, *VALUES.get(preset, ()), *filter(None, variants)]))


def shapes(config, num_classes=0):
    """Shapes of the parameters, nothing allocated; networks that presets share are traced once."""
    fields = {
        "seed": 0,
        "model": config.model,
        "dtype": config.dtype,
        "data": {"image_size": config.data.image_size, "captions_per_pair": 1},
    }
    return _shapes(config_lib.to_json(ConfigDict(fields)), num_classes)


@functools.cache
def _shapes(text, num_classes):
    fields = ConfigDict(json.loads(text))
    model = registry.build_model(fields, vocab_size=VOCABULARY, num_classes=num_classes)
    init = functools.partial(step.init_variables, fields, model)
    return jax.eval_shape(init)["params"]


def test_every_variant_has_a_row():
    for counts in (FULL, SMALL):
        assert set(counts) == {"", *ssan.VARIANTS}


@pytest.mark.parametrize(("preset", "variant"), ROWS)
def test_parameter_count(preset, variant):
    assert count_parameters(shapes(get_config(preset, variant))) == COUNTS[preset][variant]


def test_classifiers_at_full_size():
    params = shapes(get_config("cuhk_pedes"), IDENTITIES)
    assert count_parameters(params, IDENTITIES) == FULL[""] + 112_813_759


@pytest.mark.parametrize(("preset", "variant"), ROWS)
def test_runlocal_shrinks_everything(preset, variant):
    config = get_config(preset, variant, "runlocal")
    assert config.runlocal
    assert count_parameters(shapes(config)) == SMOKE[variant]
    plain = get_config(preset, variant)
    assert config.data.name == ("synth_pedes/tiny" if preset in DRAWN else plain.data.name)
    assert config.data.test_name == plain.data.test_name
    assert [(stage.epochs, stage.max_steps) for stage in config.stages] == [(1, 20)]


@pytest.mark.parametrize(("preset", "variant"), ROWS)
def test_objective_and_optimiser_fit_the_network(preset, variant):
    config = get_config(preset, variant)
    assert callable(registry.build_objective(config))
    assert config.objective.formulation == config.model.formulation
    # The weak term needs a weak caption, and only it does.
    assert config.objective.cr == (config.data.captions_per_pair == 2)
    for stage in config.stages:
        optimizers.make_optimizer(stage, shapes(config), steps_per_epoch=1)


@pytest.mark.parametrize("row", ssan.TABLE_I)
@pytest.mark.parametrize("other", [name for name in ssan.VARIANTS if name not in ssan.TABLE_I])
def test_a_row_and_another_variant_undo_nothing_of_one_another(row, other):
    plain = get_config("cuhk_pedes")
    together = get_config("cuhk_pedes", row, other)
    assert together == get_config("cuhk_pedes", other, row)
    changes = config_lib.differences(plain, together)
    expected = {
        line
        for variant in (row, other)
        for line in config_lib.differences(plain, get_config("cuhk_pedes", variant))
    }
    assert set(changes) == expected


def test_a_fixed_margin_in_the_baseline():
    for variants in (("fixed_margin", "baseline"), ("baseline", "fixed_margin")):
        objective = get_config("cuhk_pedes", *variants).objective
        assert not objective.adaptive
        assert not objective.cr


@pytest.mark.parametrize("pair", list(itertools.permutations(ssan.TABLE_I, 2)))
def test_two_rows_of_the_table_are_refused(pair):
    with pytest.raises(ValueError, match=f"'{pair[0]}' and '{pair[1]}', which undo one another"):
        get_config("cuhk_pedes", *pair)
    assert set(ssan.TABLE_I) < set(ssan.VARIANTS)


def test_the_formulation_is_one_field():
    config = get_config("cuhk_pedes")
    config.model.formulation = "released"
    assert config.objective.formulation == "released"
    loaded = json.loads(config_lib.to_json(config))
    assert loaded["objective"]["formulation"] == "released"


def test_fields_of_the_full_network():
    """They are those that the network takes when nothing is said."""
    fields = get_config("cuhk_pedes").model
    for name in ("stage_sizes", "block", "width", "last_stride"):
        assert fields[name] == getattr(SSAN, name)


def test_variants_together():
    config = get_config("cuhk_pedes", "released", "vgg16", "bfloat16", "remat")
    assert count_parameters(shapes(config)) == 40_297_280
    assert config.dtype == "bfloat16"


def test_the_setting_of_the_paper():
    config = get_config("cuhk_pedes")
    assert config.data.name == "cuhk_pedes"
    assert config.data.image_size == (384, 128)
    assert (config.data.max_tokens, config.data.min_count) == (100, 2)
    assert config.augment.flip
    assert config.batch_size == 64
    (stage,) = config.stages
    assert (stage.epochs, stage.learning_rate, stage.optimizer) == (60, 1e-3, "adam")
    rate = optimizers.stage_schedule(stage, 1065)
    found = [float(rate(epoch * 1065)) for epoch in (0, 19, 20, 40, 59)]
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-5])
    assert stage.rates.to_dict() == {"^backbone/": 0.1}


@pytest.mark.parametrize("preset", ["icfg_pedes", "rstp_reid", "cross_domain"])
def test_other_sets_in_the_setting_of_the_paper(preset):
    changes = config_lib.differences(get_config("cuhk_pedes"), get_config(preset))
    assert {line.split(":")[0] for line in changes} <= {"data.name", "data.train_split"}


def test_nothing_is_chosen_on_a_test_split():
    for preset in ssan.DATASETS:
        data = get_config(preset).data
        assert (data.val_split, data.test_split) == ("val", "test")
    data = get_config("icfg_pedes").data
    assert (data.name, data.train_split) == ("icfg_pedes", "train_minus_val")


def test_one_source_of_cuhk_pedes_against_another():
    data = ssan.get_config("cross_domain,source=cuhk03,target=viper,released").data
    assert (data.name, data.test_name) == ("cuhk_pedes/cuhk03", "cuhk_pedes/viper")
    assert data.unknown == "drop"
    with pytest.raises(
        ValueError, match="with target=cuhk02; it takes source= one of sysu, cuhk01"
    ):
        ssan.get_config("cross_domain,source=cuhk03,target=cuhk02")


@pytest.mark.parametrize("preset", [*DRAWN, "folder"])
def test_captions_that_may_name_sides_forbid_mirroring(preset):
    for variant in ("", *ssan.VARIANTS, "runlocal"):
        config = get_config(preset, variant)
        assert not config.augment.flip
        if preset in DRAWN:
            assert "^backbone/" not in config.stages[0].rates  # nothing is pretrained


def test_the_released_formulation():
    config = get_config("cuhk_pedes", "released")
    assert config.data.unknown == "drop"
    assert config.data.mean == config.data.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("argument", ["cuhk_pedess", "cuhk_pedes,relesed", ""])
def test_unknown_names(argument):
    with pytest.raises(ValueError, match="--config asks for"):
        ssan.get_config(argument)


def test_every_preset_is_described():
    readme = (pathlib.Path(ssan.__file__).parent / "README.md").read_text()
    for name in ssan.DATASETS:
        assert f"\n| {name} " in ssan.__doc__
        assert f"\n| `{name}" in readme
    for name in (*ssan.VARIANTS, "runlocal"):
        assert f"``{name}``" in ssan.__doc__
        assert f"`{name}`" in readme


@pytest.mark.parametrize(("preset", "variant"), ROWS)
def test_reads_back_from_json(preset, variant, tmp_path):
    config = get_config(preset, variant)
    config_lib.save(config, tmp_path)
    loaded = config_lib.load(tmp_path)
    assert loaded == config
    loaded.objective.fixed_margin = 0.1
    assert config_lib.differences(config, loaded) == ["objective.fixed_margin: None -> 0.1"]
