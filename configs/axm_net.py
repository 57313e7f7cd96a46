"""AXM-Net (Farooq et al., "Cross-Modal Context Sharing Attention Network"), equations (1)-(5).

  jaxreid train --config configs/axm_net.py:DATASET[,VARIANT ...][,runlocal] --workdir DIR

| DATASET          | what                             | hardware    | time         | Rank-1       |
|------------------|----------------------------------|-------------|--------------|--------------|
| quickstart       | 500 drawn people, small network  | 2 CPU cores | see README   | see README   |
| synth_pedes      | 3,000 drawn people, full network | accelerator | not measured | not measured |
| cuhk_pedes       | CUHK-PEDES                       | accelerator | not measured | not measured |
| cross_re_id      | CrossRe-ID: query and gallery    | accelerator | not measured | not measured |
| cuhk_sysu_pedes  | CUHK-SYSU likewise               | accelerator | not measured | not measured |
| market1501_pedes | Market-1501 likewise             | accelerator | not measured | not measured |

The drawn sets have three stages: nothing is pretrained there, and the paper's first stage would
freeze random features, so a stage 0 trains the vision side alone, by identity.

On CUHK-PEDES the paper prints 61.19 (all losses). Its vision backbone starts from ImageNet weights,
here ``--config.pretrained=FILE`` of OSNet x1.0, and its words from word2vec: ``word2vec`` keeps the
vectors of ``--config.data.word_vectors=FILE`` as they are; without a file a table of the same width
is learnt.

Variants: the rows of Table 2 (``baseline``, ``id``, ``id_affinity``, ``id_triplet``; none of them
is AXM-Net with all losses), of Table 5 (``share``, ``part``, ``nla``, ``share_nla``,
``share_part``, ``unified_visual``, ``single_stage``; its last row is ``id``) and of Table 6
(``strips_separate``, ``strips_shared``, ``gap``, ``gmp``, ``drop_random``, ``drop_part``,
``drop_none``, ``fc1``, ``fc2``, ``fc_proposed``), all of Tables 5 and 6 with the identity loss
only. ``no_share``, ``no_part``, ``no_nla`` and ``one_stage`` take one thing out and leave the
losses; ``joint`` is the other reading of the context network (trains, but encodes no image alone);
``word2vec``, ``bfloat16``; ``runlocal`` shrinks any of them to a smoke run.
"""

from ml_collections import ConfigDict

from jaxreid import config as presets
from jaxreid import config_fields


def get_config(argument: str = "quickstart") -> ConfigDict:
    """Returns the configuration of ``DATASET[,VARIANT ...]``.

    Raises:
      ValueError: an unknown preset or variant, or two rows of the tables.
    """
    return presets.from_presets(
        argument,
        _base,
        datasets=DATASETS,
        variants=VARIANTS,
        small=_smoke,
        exclusive=(tuple(ROWS),),
    )


def _base() -> ConfigDict:
    """The paper's setting, on no dataset yet."""
    config = config_fields.run()
    config.model = _model()
    config.objective = _objective()

    config.data = config_fields.data()
    config.data.image_size = (224, 224)
    config.data.resize = "bilinear"
    config.data.max_tokens = config.model.get_ref("max_tokens")  # one field, two names
    config.data.sampling = "images"
    config.data.captions_per_pair = 1
    config.data.length_templates = 0  # nothing is recurrent here

    config.augment = config_fields.augmentation()
    config.augment.erase = 0.5
    config.augment.turn_words = True

    config.stages = (_first_stage(), _second_stage())
    return config


def _model() -> ConfigDict:
    model = ConfigDict()
    model.name = "axm_net"  # jaxreid/models/axm_net.py
    model.channels = (64, 256, 384, 512)  # of the stem and of the three stages, both backbones
    model.blocks = 2  # AXM blocks a stage
    model.context = "shared"  # one gate for both modalities; "separate", "joint"
    model.global_branch = True  # V_g
    model.part = True  # V_p
    model.nla = True  # non-local attention over the words
    model.num_parts = 7  # P strips
    model.strip_network = "shared"  # or "separate"
    model.pooling = "max"  # of the part branch; or "average"
    model.feature_drop = "none"  # of the part branch: a "random" rectangle, or one strip, "part"
    model.part_reduction = 16  # a strip's network narrows 512 channels to 32
    model.nla_reduction = 2  # NLA embeds 512 channels in 256
    model.fc_layers = 0  # dense layers of every branch; 0: two for V_g, one for V_p and T
    model.feature_dim = 512
    model.word_dim = 300
    model.word_std = 0.1  # of learnt word vectors at the start
    model.max_tokens = 56
    model.text_stem = "conv"  # or "separable"
    model.mask_padding = False  # leave padding out of pooling, gates and attention
    return model


def _objective() -> ConfigDict:
    objective = ConfigDict()
    objective.name = "axm_net"  # jaxreid/objectives/axm_net.py
    objective.image_id_weight = 1.0  # eq. (3): of V_g and V_p
    objective.text_id_weight = 1.0  # of T
    objective.triplet_weight = 1.0  # eq. (4)
    objective.affinity_weight = 1.0  # eq. (5)
    objective.margin = 0.2  # of the triplets
    objective.negatives = "hard"  # or "random"
    objective.affinity = "literal"  # eq. (5) as printed; "usual": plain cross-entropy
    objective.label_smoothing = 0.1
    return objective


def _stage(epochs: int, decay_epochs: tuple[int, ...]) -> ConfigDict:
    stage = config_fields.stage()
    stage.epochs = epochs
    stage.decay_epochs = decay_epochs
    stage.optimizer = "sgd"
    stage.learning_rate = 0.01
    stage.weight_decay = 5e-4
    return stage


def _first_stage() -> ConfigDict:
    """Text, part branch and dense layers, from scratch; the vision backbone stays as it is."""
    stage = _stage(30, (20,))
    stage.objective = ConfigDict(_ID_ONLY)
    stage.frozen = (_VISION["shared"],)
    return stage


def _second_stage() -> ConfigDict:
    """Everything, the vision backbone at a tenth of the rate."""
    stage = _stage(60, (20, 40))
    stage.rates = ConfigDict({_VISION["shared"]: 0.1})
    return stage


_ID_ONLY = {"triplet_weight": 0.0, "affinity_weight": 0.0}

# What belongs to the vision backbone, gates included, by the kind of the context network. A joint
# gate comes from no image network, so it is trained from the start.
_VISION = {
    "shared": r"^(vision|context\d+)/",
    "separate": r"^(vision|context\d+/vision)/",
    "joint": "^(vision)/",
}
_VISION_BEGINS = "^(vision"
_WORDS = "^embedding/"
_TEXT = "^(text|embedding|fc_text|non_local)/"


def _set_context(config: ConfigDict, kind: str) -> None:
    """Changes the context network, and with it what counts as the vision backbone."""
    config.model.context = kind
    vision = _VISION[kind]
    for stage in config.stages:
        if any(name.startswith(_VISION_BEGINS) for name in stage.frozen):
            stage.frozen = (vision,)
        if stage.rates:
            stage.rates = ConfigDict({vision: 0.1})


def _cuhk_pedes(config: ConfigDict) -> None:
    config.data.name = "cuhk_pedes"


def _cross_re_id(config: ConfigDict) -> None:
    config.data.name = "cross_re_id"


def _cuhk_sysu_pedes(config: ConfigDict) -> None:
    config.data.name = "cuhk_sysu_pedes"


def _market1501_pedes(config: ConfigDict) -> None:
    config.data.name = "market1501_pedes"


def _synth_pedes(config: ConfigDict) -> None:
    config.data.name = "synth_pedes/full"
    config.data.image_size = (224, 112)  # its pictures are three times as high as wide
    config.augment.flip = False  # its captions name sides
    _train_vision_first(config, epochs=30)


def _quickstart(config: ConfigDict) -> None:
    _synth_pedes(config)
    config.data.name = "synth_pedes/quickstart"
    config.data.image_size = (96, 32)
    config.data.resize = "area"  # drawn at four times the size, so averaged exactly
    config.model.max_tokens = 40  # its longest caption
    config.batch_size = 32
    config.eval.batch_size = 200
    config.augment.erase = 0.0
    config.augment.shift = 0.05
    _small(config)
    # 500 identities are soon learnt by heart: once words and images roughly agree, learn from how
    # well they do rather than from who it is.
    config.objective.image_id_weight = config.objective.text_id_weight = 0.05
    schedule = ((5, (), 2e-3), (8, (6,), 4e-3), (14, (9, 12), 2e-3))
    for stage, (epochs, decay_epochs, rate) in zip(config.stages, schedule, strict=True):
        stage.epochs, stage.decay_epochs = epochs, decay_epochs
        stage.optimizer, stage.learning_rate, stage.weight_decay = "adam", rate, 0.0
        stage.rates = ConfigDict()
    for stage, epochs in zip(config.stages, (5, 4, 2), strict=True):
        stage.validate_epochs = epochs  # epochs are short here


def _train_vision_first(config: ConfigDict, *, epochs: int) -> None:
    """Nothing here is pretrained, and the first stage would freeze random features: learn them."""
    stage = _stage(epochs, (epochs * 2 // 3,))
    stage.objective = ConfigDict({**_ID_ONLY, "text_id_weight": 0.0})
    stage.frozen = (_TEXT,)
    config.stages = (stage, *config.stages)


DATASETS = {
    "quickstart": _quickstart,
    "synth_pedes": _synth_pedes,
    "cuhk_pedes": _cuhk_pedes,
    "cross_re_id": _cross_re_id,
    "cuhk_sysu_pedes": _cuhk_sysu_pedes,
    "market1501_pedes": _market1501_pedes,
}


def _small(config: ConfigDict) -> None:
    """A network for two CPU cores."""
    config.model.channels = (32, 64, 96, 128)
    config.model.blocks = 1
    config.model.num_parts = 6
    config.model.feature_dim = 128
    config.model.word_dim = 64


def _smoke(config: ConfigDict) -> None:
    """The same on the least data: drawing thousands of people takes longer than the run."""
    _small(config)
    config.model.channels = (8, 16, 16, 32)
    config.model.num_parts = 3
    config.model.feature_dim = 32
    config.model.word_dim = 16
    if config.data.name.startswith("synth_pedes/"):
        config.data.name = "synth_pedes/tiny"


def _id(config: ConfigDict) -> None:
    config.objective.update(_ID_ONLY)


def _id_affinity(config: ConfigDict) -> None:
    config.objective.triplet_weight = 0.0


def _id_triplet(config: ConfigDict) -> None:
    config.objective.affinity_weight = 0.0


def _no_share(config: ConfigDict) -> None:
    _set_context(config, "separate")


def _no_part(config: ConfigDict) -> None:
    config.model.part = False


def _no_nla(config: ConfigDict) -> None:
    config.model.nla = False
    for stage in config.stages:
        stage.frozen = tuple(pattern.replace("|non_local", "") for pattern in stage.frozen)


def _baseline(config: ConfigDict) -> None:
    _id(config)
    _no_share(config)
    _no_part(config)
    _no_nla(config)


def _share(config: ConfigDict) -> None:
    _share_part(config)
    _no_part(config)


def _part(config: ConfigDict) -> None:
    _share_part(config)
    _no_share(config)


def _nla(config: ConfigDict) -> None:
    _share_nla(config)
    _no_share(config)


def _share_nla(config: ConfigDict) -> None:
    _id(config)
    _no_part(config)


def _share_part(config: ConfigDict) -> None:
    _id(config)
    _no_nla(config)


def _unified_visual(config: ConfigDict) -> None:
    _id(config)
    config.model.global_branch = False


def _one_stage(config: ConfigDict) -> None:
    """As many epochs in one stage, with the last one's rates and losses."""
    *earlier, stage = config.stages
    before = sum(other.epochs for other in earlier)
    stage.epochs += before
    stage.decay_epochs = tuple(before + epoch for epoch in stage.decay_epochs)
    config.stages = (stage,)


def _single_stage(config: ConfigDict) -> None:
    _id(config)
    _one_stage(config)


def _row_of_table_6(**fields: object) -> presets.Change:
    def change(config: ConfigDict) -> None:
        _id(config)
        config.model.update(fields)

    return change


def _joint(config: ConfigDict) -> None:
    _set_context(config, "joint")


def _word2vec(config: ConfigDict) -> None:
    for stage in config.stages:
        stage.frozen = (*stage.frozen, _WORDS)


def _bfloat16(config: ConfigDict) -> None:
    config.dtype = "bfloat16"


ROWS = {
    # Table 2
    "baseline": _baseline,
    "id": _id,
    "id_affinity": _id_affinity,
    "id_triplet": _id_triplet,
    # Table 5
    "share": _share,
    "part": _part,
    "nla": _nla,
    "share_nla": _share_nla,
    "share_part": _share_part,
    "unified_visual": _unified_visual,
    "single_stage": _single_stage,
    # Table 6
    "strips_separate": _row_of_table_6(strip_network="separate"),
    "strips_shared": _row_of_table_6(strip_network="shared"),
    "gap": _row_of_table_6(pooling="average"),
    "gmp": _row_of_table_6(pooling="max"),
    "drop_random": _row_of_table_6(feature_drop="random"),
    "drop_part": _row_of_table_6(feature_drop="part"),
    "drop_none": _row_of_table_6(feature_drop="none"),
    "fc1": _row_of_table_6(fc_layers=1),
    "fc2": _row_of_table_6(fc_layers=2),
    "fc_proposed": _row_of_table_6(fc_layers=0),
}

VARIANTS = {
    **ROWS,
    "no_share": _no_share,
    "no_part": _no_part,
    "no_nla": _no_nla,
    "one_stage": _one_stage,
    "joint": _joint,
    "word2vec": _word2vec,
    "bfloat16": _bfloat16,
}
