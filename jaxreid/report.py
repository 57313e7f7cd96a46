"""One page about a run: what it is, its scores, its curves, its searches, its attention."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import jinja2
from absl import logging
from ml_collections import ConfigDict

from jaxreid import (
    attention,
    checkpoint,
    evaluate,
    exhibits,
    figures,
    files,
    logbook,
    paths,
    protocols,
    retrieval,
    runs,
    sharding,
    tables,
)
from jaxreid import config as config_lib
from jaxreid.data import source
from jaxreid.models import layers
from jaxreid.paths import AnyPath

FILE_NAME = "report.html"

COLUMNS = {name: tables.TITLES[name] for name in protocols.SCORES}
_RESULT_FIELDS = {"num_queries", "num_gallery", "dataset", "split", "checkpoint", "step"}
_SIDES_FIELDS = {
    *("modes", "all", "draws", "seed", "num_ids", "num_captions"),
    *("num_unmatched", "num_without_caption", "num_left_out"),
}
_AGAIN = "write it again by `jaxreid evaluate`, or delete it"


def write_report(
    workdir: str | os.PathLike[str],
    *,
    beside: str | os.PathLike[str] = "",
    overrides: Mapping[str, Any] | None = None,
) -> AnyPath:
    """Writes ``report.html`` into the folder of a run: one file, with nothing outside it.

    Shown are the best checkpoint, or the last one where nothing was validated yet, and what
    `jaxreid evaluate` scores when it is not told what. The same run gives the same page.

    Args:
      workdir: folder of the run.
      beside: folder of another run, whose activation maps stand beside this one's; "" for none.
      overrides: see `retrieval.load_run`; for both runs.

    Returns:
      The file.

    Raises:
      ValueError: a folder is no run or has no checkpoint, or the test split is missing or has no
        caption, or a field may not be overridden, or the maps of the two runs cannot be compared.
    """
    run = retrieval.load_run(workdir, which=_which(workdir), overrides=overrides)
    other = _load_beside(beside, run, overrides) if beside else None
    test = evaluate.find_test_set(run.config)
    where = {"dataset": test.dataset}
    data = runs.load_captioned(run.config, test.split, run.vocabulary, **where)
    if not len(data.tokens):
        raise ValueError(f"{data.split.name} has no caption: there is nothing to search with.")
    gallery = runs.load(run.config, test.gallery, **where) if test.gallery else data.split
    photographs = exhibits.load_photographs(run.config, test.split, **where)
    pictures = exhibits.as_pictures(photographs)
    queries, drawn = exhibits.ranked_lists(
        run,
        data,
        pictures,
        gallery=gallery,
        gallery_pictures=exhibits.as_pictures(
            exhibits.load_photographs(run.config, test.gallery or test.split, **where)
        ),
    )
    panels = figures.training_panels(logbook.read(workdir))
    page = render(
        name=_name(run.config, test),
        workdir=str(workdir),
        which=run.which,
        step=run.step,
        facts=facts(run, data, gallery),
        results=load_results(workdir, test.file_name(run.config).removesuffix(".json")),
        searched_in=test.gallery,
        panels=[
            {theme: figures.panel_uri(panel, colors) for theme, colors in figures.THEMES.items()}
            | {"title": panel.title, "wide": panel.wide}
            for panel in panels
        ],
        queries=queries,
        word_maps=exhibits.word_maps(run, data, drawn, pictures),
        looks=attention.look(run, data, drawn, photographs, other),
        phrases=attention.phrases(run, data, drawn),
        config=config_lib.to_json(run.config),
    )
    path = paths.as_path(workdir) / FILE_NAME
    files.write_atomically(path, page)
    logging.info("%s: %.1f MB", path, len(page) / 1e6)
    return path


def _load_beside(
    beside: str | os.PathLike[str], run: retrieval.Run, overrides: Mapping[str, Any] | None
) -> retrieval.Run:
    try:
        other = retrieval.load_run(beside, which=_which(beside), overrides=overrides)
    except ValueError as error:
        raise ValueError(f"--beside {str(beside)!r}: {error}") from error
    attention.check_beside(run, other)
    return other


def _name(config: ConfigDict, test: evaluate.TestSet) -> str:
    name = f"{config.model.name.upper()} on {config.data.name}"
    return name if test.dataset == config.data.name else f"{name}, tested on {test.dataset}"


def render(**content: Any) -> str:
    """Fills the page's template.

    Args:
      **content: its variables; a missing one is an error. Strings are escaped.

    Returns:
      HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxreid"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        directions=evaluate.DIRECTIONS,
        modes=protocols.MODES,
        sides_notes=tables.sides_notes,
        columns=COLUMNS,
        list_length=exhibits.LIST_LENGTH,
        heat_ramp=figures.heat_ramp(),
        **content,
    )


def _which(workdir: str | os.PathLike[str]) -> str:
    """The best checkpoint; a run that was never validated has none, only a last one."""
    config_lib.load(workdir)  # a folder that is no run gets its own error
    with checkpoint.Checkpoints(workdir) as checkpoints:
        return "last" if checkpoints.best is None and checkpoints.last is not None else "best"


def facts(
    run: retrieval.Run, data: runs.Captioned, gallery: source.Split | None = None
) -> dict[str, str]:
    """What a run is, in a few words each.

    Args:
      run: loaded.
      data: the split shown.
      gallery: the split that is searched; None for the same one.
    """
    config, split = run.config, data.split
    height, width = config.data.image_size
    params = run.variables["params"]
    kept = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not layers.is_classifier(sharding.path_name(path))
    ]
    searching = layers.count_parameters(kept)
    heads = layers.count_parameters(params, len(run.classes)) - searching
    checkpoint_name = "best by validation" if run.which == "best" else "the last one"
    found = {
        "Shown": f"{split.name}, {len(split.images):,} images, {len(split.captions):,} captions, "
        f"{len(split.identities):,} people" + _searched(split, gallery or split),
        "Trained on": f"{config.data.name}:{config.data.train_split}, {len(run.classes):,} people, "
        f"a vocabulary of {len(run.vocabulary):,} rows",
        "Network": f"{_network(config.model)}, images of {height} × {width}",
        "Parameters": f"{searching:,}"
        + (f", and {heads:,} of identity classifiers for training only" if heads else ""),
        "Training": "; ".join(_stage(stage) for stage in config.stages)
        + f"; {config.batch_size} pairs a step, {config.dtype}, seed {config.seed}",
        "Checkpoint": f"{checkpoint_name}, step {run.step:,}",
        "Versions": ", ".join(f"{name} {_version(name)}" for name in ("jaxreid", "jax", "flax"))
        + f", Python {platform.python_version()}, on {jax.default_backend()}",
    }
    return found


def _searched(split: source.Split, gallery: source.Split) -> str:
    if gallery is split:
        return ""
    return (
        f"; searched in {gallery.name}, {len(gallery.images):,} images, "
        f"{len(gallery.identities):,} people"
    )


def _network(model: ConfigDict) -> str:
    words = [str(model.name)]
    if "formulation" in model:
        words.append(f"{model.formulation} formulation")
    if "backbone" in model:
        words.append(f"{model.backbone} backbone")
    if model.get("part"):
        words.append(f"{model.num_parts} parts")
    if model.get("relation", "none") != "none":
        words.append(f"part relations by {model.relation}")
    return ", ".join(words)


def _stage(stage: ConfigDict) -> str:
    limit = f", at most {stage.max_steps:,} steps" if stage.max_steps else ""
    epochs = f"{stage.epochs} epoch" + ("s" if stage.epochs != 1 else "")
    return f"{epochs}{limit} of {stage.optimizer} at {stage.learning_rate:g}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def load_results(workdir: str | os.PathLike[str], first: str) -> list[dict[str, Any]]:
    """Reads what `jaxreid evaluate` has written about a run.

    Args:
      workdir: folder of the run.
      first: name of the file, without its suffix, whose result comes first.

    Returns:
      One dictionary a file of ``eval/``; empty if nothing was evaluated.

    Raises:
      ValueError: a file is broken.
    """
    found = sorted((paths.as_path(workdir) / "eval").glob("*.json"))
    results = []
    for path in sorted(found, key=lambda path: path.stem != first):
        try:
            result = json.loads(path.read_text())
            missing = _missing_fields(result)
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no result ({error}); {_AGAIN}.") from error
        if missing:
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; {_AGAIN}.")
        results.append(result)
    return results


def _missing_fields(result: dict[str, Any]) -> set[str]:
    """Names what the page needs and a result, of either kind, does not have."""
    missing = _RESULT_FIELDS - set(result)
    if result.get("modes") is not None:
        missing |= _SIDES_FIELDS - set(result)
        tables_of = [*result["modes"].values(), *result.get("all", {}).values()]
    else:
        missing |= set(evaluate.DIRECTIONS) - set(result)
        tables_of = [result[name] for name in evaluate.DIRECTIONS if name in result]
    for scores in tables_of:
        missing |= set(COLUMNS) - set(scores)
    return missing
