"""Classifiers of single modalities, which judge what a model generates: trained here, cached on disk."""

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Num

from mmvae_jax.data.batching import Batch, Dataset, take
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.chunks import chunks
from mmvae_jax.evaluation.classifier_networks import NEVER, AttributeHeads, default_network
from mmvae_jax.evaluation.parameter_cache import Report, cache_path, load_parameters, save_parameters
from mmvae_jax.modality import in_units

MAX_ROUND = 8192
MAX_CLASSIFIED = 512
# Raised with every change that makes cached parameters obsolete.
_VERSION = 2
_DISTORTION = 0.15
_SHIFT = 2.0


@dataclass(frozen=True)
class ClassifierSettings:
    """How the classifiers are trained.

    Attributes:
      steps: of AdamW, for every modality; rounded to whole passes over what is drawn at once.
      batch_size: tuples in a step.
      learning_rate: peak of a one-cycle cosine schedule.
      weight_decay: of AdamW.
      label_smoothing: of the cross-entropy.
      dropout: rate on the last features.
      average: decay of the moving average of the weights, which is what is kept.
      seed: of initial values, order, augmentation and dropout.
    """

    steps: int = 700
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    dropout: float = 0.3
    average: float = 0.98
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"classifier.{name.replace('_', '-')}={getattr(self, name)}: give at least 1")
        for name in ("label_smoothing", "dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"classifier.{name.replace('_', '-')}={getattr(self, name)}: give 0 or more, below 1")


class Classifier(NamedTuple):
    """A trained classifier.

    Attributes:
      module: Linen module, x [B, ...] in the model's units -> logits [B, N], or of A attributes [B, A, N].
      params: its parameters.
      right: whether it is, for every test tuple.
    """

    module: nn.Module
    params: Any
    right: Bool[np.ndarray, "T *A"]

    @property
    def accuracy(self) -> float:
        """The fraction of test tuples that it puts into their class."""
        return float(np.mean(self.right))


class _State(NamedTuple):
    params: Any
    average: Any
    optimizer: Any
    step: Int[Array, ""]


@partial(jax.jit, static_argnums=0)
def classify(module: nn.Module, params: Any, x: Num[Array, "B ..."]) -> Int[Array, "B *A"]:
    """The class of every x in the model's units, in inference mode."""
    logits: Any = module.apply({"params": params}, x)
    return jnp.argmax(logits, -1)


def trained_classifiers(
    dataset: Dataset,
    cache_dir: Path | str,
    settings: ClassifierSettings | None = None,
    report: Report = print,
    networks: Mapping[str, nn.Module] | None = None,
    pixels: Collection[str] | None = None,
    symbols: Collection[str] | None = None,
    attributes: tuple[int, ...] = (),
) -> dict[str, Classifier]:
    """One classifier for every modality: from the cache where it is there, else trained and cached.

    A file is found by a fingerprint of the training data, labels included, of the modality, its network and the
    settings, so that data that differ never share a classifier, and data that do not share one under any division.

    Args:
      dataset: trained on its training split, its test split says how good they are. Presence plays no part: entries
        that are not there at all are NaN, of which nothing is learned.
      cache_dir: folder of the cache, made if missing.
      settings: of training.
      report: gets a line for every classifier.
      networks: modality -> Linen module(x, train) -> logits, in place of the default for the modality's kind of data.
      pixels: modalities whose uint8 data are pixels, which the model scales to 0..1; default all.
      symbols: modalities of class indices; other integers are numbers, such as counts. Default: all integers but uint8.
      attributes: of a data set whose labels are those of several attributes, [B, A], the number of values of each: one
        network tells all of them, trained by the sum of their cross-entropies.
    """
    settings, networks = settings or ClassifierSettings(), networks or {}
    pixels = dataset.modalities if pixels is None else pixels
    sample = take(dataset.train, jax.random.key(settings.seed), min(dataset.train.size, 1024)).x
    integers = {name for name, x in sample.items() if jnp.issubdtype(x.dtype, jnp.integer) and x.dtype != jnp.uint8}
    symbols = integers if symbols is None else symbols
    kinds = {}
    for name in dataset.modalities:
        x = in_units(sample[name], name in pixels, name in symbols)
        network = networks.get(name) or default_network(x, sum(attributes) or dataset.num_classes, settings.dropout)
        module = AttributeHeads(network, attributes) if attributes else network
        kinds[name] = _Kind(module, name in pixels, name in symbols)
    paths = {name: _cache_path(cache_dir, dataset, name, kind, settings, attributes) for name, kind in kinds.items()}
    params = {name: load_parameters(path, _shapes(kinds[name], sample[name]), report) for name, path in paths.items()}
    missing = {name: kinds[name] for name, found in params.items() if found is None}
    if missing:
        start = time.perf_counter()
        params |= _train(dataset, missing, settings)
        for name in missing:
            save_parameters(paths[name], params[name], report)
        report(f"trained classifiers of {', '.join(missing)} in {time.perf_counter() - start:.0f} s")
    test = take(dataset.test, jax.random.key(0), dataset.test.size)
    return {
        name: Classifier(kind.module, params[name], _right(kind, params[name], test, name))
        for name, kind in kinds.items()
    }


class _Kind(NamedTuple):
    """A network, whether uint8 data are pixels, and whether data are class indices."""

    module: nn.Module
    pixels: bool
    symbols: bool

    def in_units(self, x: Num[Array, "..."]) -> Num[Array, "..."]:
        units = in_units(x, self.pixels, self.symbols)
        return jnp.where(jnp.isnan(units), 0.0, units) if jnp.issubdtype(x.dtype, jnp.floating) else units


def _right(kind: _Kind, params: Any, test: Batch, name: str) -> Bool[np.ndarray, "T *A"]:
    right = []
    for chunk in chunks(test, MAX_CLASSIFIED):
        classes = classify(kind.module, params, kind.in_units(chunk.batch.x[name]))
        right.append(np.asarray(classes == chunk.batch.label)[: chunk.size])
    return np.concatenate(right)


def _train(dataset: Dataset, kinds: Mapping[str, _Kind], settings: ClassifierSettings) -> dict[str, Any]:
    """All classifiers side by side, so that each epoch's tuples are made once."""
    key = jax.random.key(settings.seed)
    batch_size = min(settings.batch_size, dataset.train.size)
    per_round = min(dataset.train.size, MAX_ROUND) // batch_size
    per_round = min(per_round, settings.steps)
    rounds = round(settings.steps / per_round)
    states: dict[str, _State] = {}
    for i in range(rounds):
        round_key = jax.random.fold_in(key, i)
        tuples = take(dataset.train, round_key, per_round * batch_size)
        x, label = jax.tree.map(lambda v: v.reshape(per_round, batch_size, *v.shape[1:]), (tuples.x, tuples.label))
        for name, kind in kinds.items():
            if name not in states:
                states[name] = _initial(kind, settings, x[name][0], key)
            states[name] = _steps(kind, settings, rounds * per_round, states[name], x[name], label, round_key)
    return {name: state.average for name, state in states.items()}


def _optimizer(settings: ClassifierSettings, total: int) -> optax.GradientTransformation:
    schedule = optax.cosine_onecycle_schedule(total, settings.learning_rate, 0.2)
    return optax.adamw(schedule, weight_decay=settings.weight_decay)


@partial(jax.jit, static_argnums=(0, 1))
def _initial(kind: _Kind, settings: ClassifierSettings, x: Array, key: Key[Array, ""]) -> _State:
    params = kind.module.init(key, kind.in_units(x))["params"]
    optimizer = _optimizer(settings, settings.steps).init(params)
    return _State(params, params, optimizer, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _steps(
    kind: _Kind,
    settings: ClassifierSettings,
    total: int,
    state: _State,
    x: Num[Array, "steps B ..."],
    label: Int[Array, "steps B *A"],
    key: Key[Array, ""],
) -> _State:
    optimizer = _optimizer(settings, total)

    def loss(params: Any, x: Array, label: Array, key: Key[Array, ""]) -> Float[Array, ""]:
        logits: Any = kind.module.apply({"params": params}, kind.in_units(x), True, rngs={"dropout": key})
        costs = _cross_entropy(logits, label, settings.label_smoothing)
        if jnp.issubdtype(x.dtype, jnp.floating):  # of what is not there at all nothing is learned
            missing = jnp.isnan(x).reshape(len(x), -1).all(-1)
            costs = jnp.where(jnp.expand_dims(missing, range(1, costs.ndim)), 0.0, costs)
        return jnp.sum(costs) / len(x)

    def step(state: _State, data: tuple[Array, Array]) -> tuple[_State, None]:
        x, label = data
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        gradient = jax.grad(loss)(state.params, _augment(x, augment_key), label, dropout_key)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = optax.incremental_update(params, state.average, 1 - settings.average)
        return _State(params, average, optimizer_state, state.step + 1), None

    return jax.lax.scan(step, state, (x, label))[0]


def _cross_entropy(logits: Float[Array, "B *A N"], label: Int[Array, "B *A"], smoothing: float) -> Float[Array, "B *A"]:
    """Of labels that are smoothed over the values that there are."""
    known = logits > NEVER / 2
    even = known / known.sum(-1, keepdims=True)
    targets = (1 - smoothing) * jax.nn.one_hot(label, logits.shape[-1]) + smoothing * even
    return optax.softmax_cross_entropy(logits, targets)


def _augment(x: Num[Array, "B ..."], key: Key[Array, ""]) -> Num[Array, "B ..."]:
    """Half of the images rotated, sheared, scaled and shifted a little; anything else as it is."""
    if x.ndim != 4:
        return x
    chosen_key, key = jax.random.split(key)
    chosen = jax.random.bernoulli(chosen_key, 0.5, (len(x), 1, 1, 1))
    return jnp.where(chosen, jax.vmap(_distorted)(x, jax.random.split(key, len(x))), x)


def _distorted(x: Num[Array, "H W C"], key: Key[Array, ""]) -> Num[Array, "H W C"]:
    """A random affine map about the centre, nearest pixels, mirrored at the border."""
    linear_key, shift_key = jax.random.split(key)
    last = jnp.array(x.shape[:2]) - 1
    linear = jnp.eye(2) + jax.random.uniform(linear_key, (2, 2), minval=-1, maxval=1) * _DISTORTION
    shift = jax.random.uniform(shift_key, (2,), minval=-1, maxval=1) * _SHIFT
    centred = jnp.moveaxis(jnp.indices(x.shape[:2]), 0, -1) - last / 2
    source = jnp.round(centred @ linear.T + shift + last / 2).astype(jnp.int32)
    source = jnp.clip(last - jnp.abs(last - jnp.abs(source)), 0, last)
    return x[source[..., 0], source[..., 1]]


def _cache_path(
    folder: Path | str,
    dataset: Dataset,
    modality: str,
    kind: _Kind,
    settings: ClassifierSettings,
    attributes: tuple[int, ...],
) -> Path:
    identity = {
        "version": _VERSION,
        "data": dataset.train.identity,
        "classes": dataset.num_classes,
        "modality": modality,
        "network": type(kind.module).__name__,
        "pixels": kind.pixels,
        "settings": asdict(settings),
    }
    identity |= {"attributes": attributes} if attributes else {}
    return cache_path(folder, f"classifier-{dataset.name}-{modality}", identity)


def _shapes(kind: _Kind, x: Num[Array, "B ..."]) -> Any:
    return jax.eval_shape(kind.module.init, jax.random.key(0), kind.in_units(x[:1]))["params"]
