"""A run of AXM-Net in three stages: stopped around the borders of a stage, and what is frozen."""

import copy
import re

import numpy as np
import pytest

from configs import axm_net
from jaxreid import sharding, train
from jaxreid.logbook import read
from tests.jaxreid import stopping, tiny

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compile_fast")]

STEPS = 3  # of each stage
BORDERS = (STEPS, 2 * STEPS)
END = 3 * STEPS

# Weight decay, which this config has, moves each kernel that is not frozen, and a batch each
# running statistic; the bias of a unit that is never active may stay where it is.
MOVES = "/(kernel|mean|var)$"
VISION = r"variables/(params/(vision|context\d+)|batch_stats/vision)/"
TEXT = "variables/(params/(text|embedding|fc_text|non_local)|batch_stats/(text|fc_text|non_local))/"


@pytest.fixture(scope="module", autouse=True)
def _one_device():
    """For one device the program compiles sooner; `test_train` runs on eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_mesh", lambda model: tiny.mesh(1, model))
        yield


@pytest.fixture(scope="module")
def config(tiny_data_dir):
    """The quickstart's three stages on the tiny set, each step saved and logged."""
    config = axm_net.get_config("quickstart,runlocal")
    config.data.data_dir = str(tiny_data_dir)
    config.data.cache_dir = str(tiny_data_dir / "cache")
    config.data.image_size = (48, 16)
    config.model.channels = (4, 8, 8, 8)
    config.batch_size = 16
    config.eval.batch_size = 32
    config.checkpoint_every_steps = 1
    config.log_every_steps = 1
    for stage in config.stages:
        stage.max_steps = STEPS
        # The paper's, since Adam would leave a gate alone whose one unit is never active.
        stage.optimizer, stage.learning_rate, stage.weight_decay = "sgd", 0.01, 5e-4
    return config


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The run that nothing disturbed: folder, what each step saved, what train returned."""
    workdir = tmp_path_factory.mktemp("whole")
    with stopping.watched_saves() as saved:
        done = train.train(config, workdir)
    assert sorted(saved) == list(range(1, END + 1))
    return workdir, saved, done


def _lines(workdir):
    """What a run logged, but for how fast it was."""
    lines = read(workdir)
    return [{k: v for k, v in line.items() if not k.endswith("pairs_per_s")} for line in lines]


@pytest.mark.parametrize("beside", [-1, 0, 1], ids=["before", "at", "after"])
def test_stopped_beside_each_border_a_run_ends_bit_for_bit_the_same(
    config, whole, tmp_path, beside
):
    workdir, expected, done = whole
    saved = {}
    for border in BORDERS:
        saved |= stopping.train_until(config, tmp_path, border + beside)
    with stopping.watched_saves() as rest:
        again = train.train(config, tmp_path)
    assert not rest.keys() & saved.keys(), "a step was computed twice"
    saved |= rest
    assert saved.keys() == expected.keys()
    for step in expected:  # parameters, statistics and the optimiser's state of each step
        stopping.assert_same(saved[step], expected[step], f"step {step}: ")
    assert _lines(tmp_path) == _lines(workdir)
    assert again == done


def _changed(before, after, pattern):
    """Whether each leaf whose path fits is another one after than before."""
    names = [name for name in before if re.match(pattern, name)]
    return {name: not np.array_equal(before[name], after[name]) for name in names}


def test_the_middle_stage_leaves_the_vision_backbone_as_it_found_it(whole):
    _, saved, _ = whole
    for step in range(BORDERS[0] + 1, BORDERS[1] + 1):
        kept = _changed(saved[BORDERS[0]], saved[step], VISION)
        assert not any(kept.values()), [name for name in kept if kept[name]]
    assert {"mean", "var"} == {name.split("/")[-1] for name in kept if "batch_stats" in name}
    assert any("/context1/" in name for name in kept)
    others = r"variables/(?!\w+/(vision|context)).*" + MOVES
    moved = _changed(saved[BORDERS[0]], saved[BORDERS[1]], others)
    assert all(moved.values()), [name for name in moved if not moved[name]]


def test_the_first_stage_leaves_the_text_side_alone_and_the_last_one_nothing(whole):
    _, saved, _ = whole
    kept = _changed(saved[1], saved[BORDERS[0]], TEXT)
    assert not any(kept.values()), [name for name in kept if kept[name]]
    assert {"params", "batch_stats"} == {name.split("/")[1] for name in kept}
    moved = _changed(saved[1], saved[BORDERS[0]], f"{VISION}.*{MOVES}")
    assert all(moved.values()), [name for name in moved if not moved[name]]
    last = _changed(saved[BORDERS[1]], saved[END], f"({VISION}|{TEXT}).*{MOVES}")
    assert all(last.values()), [name for name in last if not last[name]]


def test_a_network_that_encodes_no_image_alone_trains_unvalidated(config, tmp_path):
    """Nothing can be searched with a joint context, so there is no score and no best step."""
    config = copy.deepcopy(config)
    config.model.context = "joint"
    config.stages = config.stages[2:]
    done = train.train(config, tmp_path)
    assert done == {"finished": False, "step": STEPS, "best_step": None}
    assert not any(key.startswith("val/") for line in read(tmp_path) for key in line)
