"""Row templates: which fit, which is chosen, and how much padding they leave."""

import numpy as np
import pytest

from jaxreid.models.templates import (
    RowTemplate,
    choose_template,
    fits,
    make_templates,
    rows_of_a_step,
)


@pytest.fixture(scope="module")
def caption_lengths():
    """Made-up lengths with the statistics of CUHK-PEDES: mean 23.5, median 21, p99 ~55, max 96."""
    rng = np.random.default_rng(0)
    lengths = 12 + 9 * np.exp(rng.normal(0, 0.68, 20_000))
    lengths = np.clip(np.round(lengths), 10, 96).astype(np.int64)
    lengths[0] = 96
    assert abs(lengths.mean() - 23.5) < 0.5
    assert np.median(lengths) == 21
    assert 50 <= np.percentile(lengths, 99) <= 60
    return lengths


def test_template_counts_length_and_tokens():
    template = RowTemplate(steps=(4, 2), rows=(3, 1), groups=2)
    assert template.length == 6
    assert template.tokens == 2 * (4 * 3 + 2 * 1)
    assert template.starts == (0, 4)
    assert RowTemplate.full(5, 9, 2) == RowTemplate((9,), (5,), 2)


@pytest.mark.parametrize(
    ("steps", "rows"),
    [((), ()), ((4,), (3, 1)), ((4, 0), (3, 1)), ((4, 2), (3, 0)), ((4, 2), (1, 3))],
)
def test_impossible_templates_are_refused(steps, rows):
    with pytest.raises(ValueError, match="RowTemplate"):
        RowTemplate(steps, rows)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([4, 6, 0, 2, 1, 6], True),
        ([4, 6, 5, 2, 1, 3], False),  # two captions of the first group reach the second chunk
        ([6, 1, 1, 7, 1, 1], False),  # longer than the template
        ([6, 1, 1, 4, 4, 4], True),
        ([0, 0, 0, 0, 0, 0], True),
        ([1, 1, 1, 1, 1], False),  # not a multiple of the groups
    ],
)
def test_fits(lengths, expected):
    template = RowTemplate(steps=(4, 2), rows=(3, 1), groups=2)
    assert fits(template, np.array(lengths)) is expected


def test_choose_template_takes_the_first_that_fits():
    templates = [RowTemplate((2,), (3,)), RowTemplate((2, 2), (3, 1)), RowTemplate.full(3, 5)]
    assert choose_template(templates, np.array([2, 1, 0])) == 0
    assert choose_template(templates, np.array([2, 4, 0])) == 1
    assert choose_template(templates, np.array([3, 4, 0])) == 2
    with pytest.raises(ValueError, match="No template fits"):
        choose_template(templates, np.array([6, 1, 1]))


def mean_padded_tokens(templates, lengths, rows, groups, batches=500):
    rng = np.random.default_rng(99)
    size = rows * groups
    drawn = [rng.choice(lengths, size) for _ in range(batches)]
    return np.mean([templates[choose_template(templates, d)].tokens / size for d in drawn])


@pytest.mark.parametrize(("rows", "groups", "limit"), [(64, 1, 34), (128, 1, 34), (16, 8, 42)])
def test_templates_leave_little_padding(caption_lengths, rows, groups, limit):
    templates = make_templates(caption_lengths, rows, groups, max_tokens=100, seed=3)
    assert len(templates) <= 5
    assert templates[-1] == RowTemplate.full(rows, 100, groups)
    assert [t.tokens for t in templates] == sorted(t.tokens for t in templates)
    assert all(t.groups == groups and t.length <= 100 for t in templates)
    assert mean_padded_tokens(templates, caption_lengths, rows, groups) <= limit


@pytest.mark.parametrize(("rows", "groups"), [(32, 1), (128, 8)])
def test_where_time_steps_cost_more_than_rows_there_are_fewer(caption_lengths, rows, groups):
    """Of the same batches; what they save is worth more than the padding that they add."""
    rng = np.random.default_rng(7)
    batches = [rng.choice(caption_lengths, rows * groups) for _ in range(200)]
    means = {}
    for platform in ("cpu", "tpu"):
        templates = make_templates(caption_lengths, rows, groups, 100, platform=platform)
        assert templates[-1] == RowTemplate.full(rows, 100, groups)
        chosen = [templates[choose_template(templates, batch)] for batch in batches]
        means[platform] = np.mean([[t.length, t.tokens / groups] for t in chosen], axis=0)
    steps, tokens = means["cpu"] - means["tpu"]
    assert steps > 1
    assert rows_of_a_step("tpu") * steps + tokens > 0


def test_templates_are_determined_by_the_seed(caption_lengths):
    first = make_templates(caption_lengths, 16, 1, 100, seed=1)
    assert first == make_templates(caption_lengths, 16, 1, 100, seed=1)


def test_templates_of_equal_lengths():
    templates = make_templates(np.full(100, 7), 4, 1, max_tokens=20)
    assert templates == [RowTemplate((8,), (4,)), RowTemplate.full(4, 20)]


def test_templates_respect_a_length_that_chunks_do_not_divide():
    templates = make_templates(np.array([3, 9, 10]), 4, 1, max_tokens=10, chunk=8)
    assert all(template.length <= 10 for template in templates)


@pytest.mark.parametrize("lengths", [[], [5, 30]])
def test_lengths_beyond_the_tokens_are_refused(lengths):
    with pytest.raises(ValueError, match="max_tokens=20"):
        make_templates(np.array(lengths, int), 4, 1, max_tokens=20)
