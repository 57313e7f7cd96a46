"""Speed of a network as a search engine: embedding images and captions, on made-up data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxreid import encoders, registry, sharding, step
from jaxreid.bench import beside, handover, made_up, measure, roofline, torch_process
from jaxreid.typing import PyTree

# Batches of each when their number is not given. Captions go by length, and only among many are
# those of a batch of one length, as they are in a gallery.
_IMAGE_BATCHES, _CAPTION_BATCHES = 4, 16
_RATES = {"image": "images_per_second", "text": "captions_per_second"}


def bench_embed(
    config: ConfigDict,
    *,
    images: int = 0,
    captions: int = 0,
    repeats: int = 3,
    vocab_size: int = 5000,
    against: str = "",
) -> measure.Measured:
    """Measures the encoders of a config's network, from pixels and word ids to embeddings.

    Args:
      config: of a run; no dataset is read, and ``eval.batch_size`` counts.
      images: that are embedded; 0 for 4 batches.
      captions: likewise, of natural length; 0 for 16 batches.
      repeats: times that all are embedded, after one that does not count.
      vocab_size: rows of the word table.
      against: "torch" measures PyTorch's encoders, too, as written and tuned, in turn with ours on
        the same data.

    Returns:
      Images and captions a second, and memory.

    Raises:
      ValueError: a number or a field of the config is out of range, or there is nothing to compare
        with.
      ChildProcessError: the other side ended early.
    """
    beside.check(against)
    batch_size = config.eval.batch_size
    images = images or _IMAGE_BATCHES * batch_size
    captions = captions or _CAPTION_BATCHES * batch_size
    measure.check_from_one(
        {"batch_size": batch_size, "images": images, "captions": captions, "repeats": repeats}
    )
    where = measure.environment()
    with measure.HostMemory(beside.SAMPLE_SECONDS if against else 0.01) as memory:
        ours = _make_ours(config, images, captions, vocab_size)
        timed = _time_beside(ours, repeats) if against else _time_alone(ours, repeats)
    for work in _RATES:
        line = ours.work(work)
        timed[work]["roofline"] = line and line.numbers(timed[work]["seconds"].median)
    numbers = {
        "model": config.model.to_dict(),
        "dtype": config.dtype,
        "batch_size": batch_size,
        "image_size": list(config.data.image_size),
        "max_tokens": config.data.max_tokens,
        "vocab_size": vocab_size,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(ours.variables["params"])),
        "images": images,
        "captions": captions,
        "tokens_per_caption": float(ours.arrays["lengths"].mean()),
        "dim": ours.embed("text").shape[1],
        **timed,
        "peak_host_bytes": memory.peak,
        "peak_device_bytes": measure.device_peak_memory(),
    }
    return measure.Measured.here(_title(config), where, numbers, _rows(numbers))


@dataclasses.dataclass(frozen=True)
class _Ours:
    """Our side.

    Attributes:
      config: of the run.
      model: the network, without identity classifiers.
      variables: its initial values.
      encoder: compiled encoders.
      calls: the program of each block that was embedded.
      arrays: "images" [N, H, W, 3], "tokens" [M, L], "lengths" [M].
    """

    config: ConfigDict
    model: Any
    variables: PyTree
    encoder: encoders.Encoder
    calls: list[Any]
    arrays: Mapping[str, np.ndarray]

    def embed(self, work: str) -> np.ndarray:
        """Embeds all images or captions; on the host."""
        if work == "image":
            return self.encoder.images(self.variables, self.arrays["images"])
        return self.encoder.captions(self.variables, self.arrays["tokens"], self.arrays["lengths"])

    def work(self, work: str) -> roofline.Roofline | None:
        """Counts what embedding all of them takes."""
        self.calls.clear()
        self.embed(work)
        kind, devices = jax.devices()[0].device_kind, self.encoder.mesh.size
        known = {id(p): roofline.of_program(p, kind, devices) for p in self.calls}
        return roofline.total(known[id(program)] for program in self.calls)

    def count(self, work: str) -> int:
        return len(self.arrays["images" if work == "image" else "lengths"])


def _make_ours(config: ConfigDict, images: int, captions: int, vocab_size: int) -> _Ours:
    data = made_up.run_data(
        config, num_images=max(images, -(-captions // 2)), num_ids=1, vocab_size=vocab_size
    ).train
    mesh = sharding.make_mesh(1)
    model = registry.build_model(config, vocab_size=vocab_size, num_classes=0)
    init = functools.partial(step.init_variables, config, model)
    variables = jax.jit(init, out_shardings=sharding.replicated(mesh))(config.seed)
    arrays = {
        "images": data.split.images[:images],
        "tokens": data.tokens[:captions],
        "lengths": data.lengths[:captions],
    }
    calls: list[Any] = []
    encoder = encoders.make_encoder(config, model, mesh, on_call=calls.append)
    return _Ours(config, model, variables, encoder, calls, arrays)


def _time_alone(ours: _Ours, repeats: int) -> dict[str, Any]:
    functions: dict[str, Callable[[], Any]] = {
        work: functools.partial(ours.embed, work) for work in _RATES
    }
    seconds = measure.time_in_turns(functions, repeats=repeats)
    return {work: _speed(work, ours.count(work), seconds[work]) for work in _RATES}


def _time_beside(ours: _Ours, repeats: int) -> dict[str, Any]:
    handed_over = handover.embedding(ours.config, ours.model, ours.variables, ours.arrays)
    found: dict[str, Any] = {}
    with torch_process.Torch(*handed_over) as torch:
        del handed_over
        parameters = handover.count_parameters(ours.model, ours.variables["params"])
        handover.check_parameters(parameters, torch.info["parameters"])
        for work in _RATES:
            found[work] = _compare(ours, torch, work, repeats)
        runs, parameters = beside.describe(torch.info), torch.info["parameters"]
    return {**found, "torch": {"runs": runs, "parameters": parameters}}


def _compare(ours: _Ours, torch: torch_process.Torch, work: str, repeats: int) -> dict[str, Any]:
    """Times a modality on all sides, which embed the same with the same weights."""
    embedded = ours.embed(work)
    differences = {
        name: float(np.abs(embedded - theirs).max()) for name, theirs in torch.results(work).items()
    }
    del embedded
    others = torch.processes(work)
    timed = beside.in_turns(others, lambda _: ours.embed(work), lambda _: [work], turns=repeats)
    speed = functools.partial(_speed, work, ours.count(work))
    return {
        **speed(timed.ours),
        **beside.numbers(timed, torch.info, work, speed),
        "largest_difference": differences,
    }


def _speed(work: str, count: int, seconds: measure.Timing) -> dict[str, Any]:
    return {"seconds": seconds, _RATES[work]: count / seconds.median}


def _title(config: ConfigDict) -> str:
    height, width = config.data.image_size
    return (
        f"embedding with {config.model.name}, batches of {config.eval.batch_size}, {height} x "
        f"{width} pixels, {config.dtype}"
    )


def _rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("parameters", f"{numbers['parameters']:,}, without identity classifiers")]
    if "torch" in numbers:
        rows.append(("torch", numbers["torch"]["runs"]))
    for work, rate in _RATES.items():
        found, count = numbers[work], numbers[f"{rate.split('_')[0]}"]
        rows += _speed_rows(rate, count, found)
        if found["roofline"]:
            operations = measure.operations(found["roofline"]["flops"])
            rows += [("FLOPs for them", operations), *roofline.rows(found["roofline"])]
        if "torch" in found:
            rows += beside.rows(found, functools.partial(_speed_rows, rate, count))
            far = found["largest_difference"]
            rows.append(
                (
                    "largest difference",
                    f"from torch as written {far[torch_process.AS_WRITTEN]:.2g}, tuned "
                    f"{far[torch_process.TUNED]:.2g}",
                )
            )
    rows.append(("host memory", f"{measure.gib(numbers['peak_host_bytes'])} at most"))
    if numbers["peak_device_bytes"]:
        rows.append(("device memory", f"{measure.gib(numbers['peak_device_bytes'])} at most"))
    return rows


def _speed_rows(rate: str, count: int, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (rate.replace("_per_second", "/s"), f"{found[rate]:.4g}"),
        (f"seconds for {count:,}", str(found["seconds"])),
    ]
