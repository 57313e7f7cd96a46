"""Fields that the configuration of every network has, with their defaults."""

from __future__ import annotations

from ml_collections import ConfigDict, config_dict

from jaxreid.data.augment import IMAGENET_MEAN, IMAGENET_STD


def run() -> ConfigDict:
    """What no network and no dataset has a say in."""
    config = ConfigDict()
    config.seed = 0  # of every draw: initial values, order, captions, augmentation
    config.batch_size = 64  # pairs a step, all devices together
    # Pairs on each device instead; the rates are then scaled from batch_size by batch_rule.
    config.batch_per_device = config_dict.placeholder(int)
    config.batch_rule = "sqrt"  # or "linear", "none"
    config.dtype = "float32"  # or "bfloat16"; parameters, statistics and losses stay float32
    config.log_every_steps = 50
    config.checkpoint_every_steps = 0  # besides the end of each epoch; 0: not
    config.checkpoint_every_minutes = 10  # besides both, at the next report; 0: not
    config.max_to_keep = 1  # of the last checkpoints; the best by validation is kept besides
    # Folder of a run to start from, also at gs://...: words and identities matched by name.
    config.init_from = ""
    config.pretrained = ""  # ImageNet weights of the image backbone: path, hf://..., gs://...
    config.pretrained_sha256 = ""  # what that file's SHA-256 must be; empty: what its name says
    config.runlocal = False  # set by the variant of this name

    config.mesh = ConfigDict()
    config.mesh.model = 1  # devices that share the identity classifiers

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.draws = 10  # single-shot draws, on sets with splits query and gallery
    config.eval.seed = 0  # of these draws
    return config


def data() -> ConfigDict:
    """What is read, and how it becomes arrays."""
    data = ConfigDict()
    data.name = ""  # TFDS name
    data.register = "tfds_builders"  # package whose import registers builders
    data.data_dir = "~/tensorflow_datasets"  # or gs://...: built sets, copied to each host once
    data.manual_dir = ""  # folder of licensed files, if the set has yet to be built
    data.cache_dir = ""  # decoded images, on a local disk; empty: the user's cache folder
    data.train_split = "train"
    data.val_split = "val"
    data.test_split = "test"
    data.test_name = ""  # TFDS name of another set to test on; empty: the same set
    data.image_size = (384, 128)  # height, width
    data.resize = "bicubic"  # or "bilinear", both with Pillow's filters; "area": OpenCV's average
    data.mean = IMAGENET_MEAN
    data.std = IMAGENET_STD
    data.max_tokens = 100
    data.min_count = 2  # occurrences a word needs to be known
    data.unknown = "unk"  # other words share a row; "drop": they are left out
    data.word_vectors = ""  # file of word2vec or GloVe; empty: word vectors are learnt
    data.sampling = "pairs"  # an epoch is every caption once; "images": every image, a caption each
    data.captions_per_pair = 2  # the strong one, and a weak one
    data.feed = "auto"  # where images live: "device", "sharded" or "host"; "auto": what fits
    data.length_templates = 4  # compiled shapes for captions of uneven length
    return data


def augmentation() -> ConfigDict:
    """What changes at random in a batch, on the device."""
    augment = ConfigDict()
    augment.flip = True  # mirror every second image; captions that name sides forbid it
    augment.light = 0.0  # change brightness by up to this share, colours by a third of it
    augment.shift = 0.0  # move images by up to this share of their height and width
    augment.erase = 0.0  # share of the images of which a rectangle is painted over
    augment.erase_area = (0.02, 0.4)  # of the rectangle, as share of the image's, from and to
    augment.erase_ratio = (0.3, 3.3)  # its height by its width, likewise
    augment.turn_words = False  # circular shift of every sentence
    return augment


def stage() -> ConfigDict:
    """One stretch of training; its optimiser starts anew."""
    stage = ConfigDict()
    stage.epochs = 60
    stage.max_steps = 0  # stop earlier; 0: not
    stage.optimizer = "adam"  # or "sgd"
    stage.learning_rate = 1e-3
    stage.decay_epochs = (20, 40)
    stage.decay_factor = 0.1
    stage.momentum = 0.9  # sgd only
    stage.weight_decay = 0.0  # sgd only
    stage.rates = ConfigDict()  # pattern of parameters -> factor on the rate
    stage.frozen = ()  # patterns of parameters that keep their value, and their statistics
    stage.validate_epochs = 1  # validate and save after so many epochs each, and at the end
    stage.objective = ConfigDict()  # fields of config.objective that differ in this stage
    return stage
