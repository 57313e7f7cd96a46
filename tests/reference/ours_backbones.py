"""What jaxreid makes of a backbone by itself, under the names of `record.record_backbone`."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxreid import pretrained, torch_names
from jaxreid.models.axm_net import AXMNet
from jaxreid.models.resnet import ResNet
from jaxreid.models.vgg import VGG
from jaxreid.torch_names import Names, backbones
from tests.reference import cases, ours
from tests.reference.cases import Arrays, BackboneCase


def outputs(case: BackboneCase, record: Arrays) -> tuple[Arrays, pretrained.Report]:
    """ "eval/...", "train/..." and "stats/...", and what became of each tensor."""
    model, call = _make(case)
    images = jnp.asarray(cases.normalised(record["in/images"]).transpose(0, 2, 3, 1))
    shapes = jax.eval_shape(functools.partial(call, model.init, False), jax.random.key(0), images)
    names = _names(case, model, shapes)
    start = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    variables, report = pretrained.fit(names, ours.part_of(record, "state"), start)

    @jax.jit
    def run(variables: Any, images: jax.Array) -> Any:
        mutable = ["batch_stats", "intermediates"]
        apply = functools.partial(model.apply, mutable=mutable, **ours.SEEN)
        return {
            name: call(apply, train, variables, images)
            for name, train in (("eval", False), ("train", True))
        }

    found = jax.device_get(run(variables, images))
    arrays = {}
    for mode, (maps, changed) in found.items():
        for name, value in {**maps, **_blocks(changed)}.items():
            arrays[f"{mode}/{name.replace('stage', 'layer')}"] = np.moveaxis(value, 3, 1)
    if case.kind == "vgg":
        arrays = {name.replace("layer", "stage"): value for name, value in arrays.items()}
    after = {**variables, **{k: v for k, v in found["train"][1].items() if k == "batch_stats"}}
    for name, value in pretrained.to_torch(names, after).items():
        if name.rsplit(".", 1)[-1] in ("running_mean", "running_var"):
            arrays[f"stats/{name}"] = value
    return arrays, report


def _make(case: BackboneCase) -> tuple[nn.Module, Any]:
    """The network, and how to call it in either mode, which gives its maps by name."""
    if case.kind == "osnet":
        # Here OSNet has its gates in the context networks beside it.
        model = AXMNet(vocab_size=2, num_parts=1, part=False, **case.fields)

        def osnet(apply: Any, train: bool, variables: Any, images: jax.Array) -> Any:
            result = apply(variables, images, train=train, method="encode_image")
            is_pair = isinstance(result, tuple)
            return (result[0]["stages"], result[1]) if is_pair else result

        return model, osnet
    network = {"resnet": ResNet, "vgg": VGG}[case.kind]

    def alone(apply: Any, train: bool, variables: Any, images: jax.Array) -> Any:
        result = apply(variables, images, use_running_average=not train)
        is_pair = isinstance(result, tuple)
        return (result[0][1], result[1]) if is_pair else result

    return network(**case.fields), alone


def _names(case: BackboneCase, model: nn.Module, shapes: Any) -> Names:
    if isinstance(model, AXMNet):
        return torch_names.backbone(model, shapes)
    table = {"resnet": backbones.resnet, "vgg": backbones.vgg}[case.kind](model)
    return torch_names.make_names(table, shapes, whole=True)


def _blocks(changed: Any) -> Arrays:
    bodies = changed.get("intermediates", {}).get("vision", {})
    return {
        f"block{name.removeprefix('body_')}": found["merge"][0] for name, found in bodies.items()
    }
