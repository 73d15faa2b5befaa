"""Batches of data sets that live on the device: an epoch is a plan, a batch gathers its rows.

`Split.plan` draws one epoch (order, pairing, crops) from a key and `Split.gather` turns some rows
of the plan into tuples. Both are pure JAX: a train step that scans over `batch_at` does no host
work, and the same key gives the same epoch on every run.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Key

from mmvae_jax.data.attributes import Attributes
from mmvae_jax.data.captions import Captioned
from mmvae_jax.data.tasks import Task
from mmvae_jax.errors import UserError

Arrays = Any
Plan = dict[str, Array]
Gather = Callable[[Arrays, Plan], tuple[dict[str, Array], Int[Array, "B"]]]
Join = Callable[[dict[str, Array]], Array]
# Tuples that stand for what a split makes of its arrays.
_SAMPLE = 256


class Batch(NamedTuple):
    """Tuples of all modalities, with what was observed of them.

    Attributes:
      x: modality name -> array with leading axis B. Images are uint8 NHWC in 0..255 (or float32
        in 0..1), text and labels int32. Entries of absent modalities are arbitrary: never use
        them.
      present: `present[b, m]` is true where modality m (in the data set's order) of tuple b was
        observed.
      label: the class of each tuple.
    """

    x: dict[str, Array]
    present: Bool[Array, "B M"]
    label: Int[Array, "B"]


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set: arrays on the device and the two functions that make tuples of them.

    Attributes:
      arrays: pytree of device arrays, uint8 where possible. Pass it to jitted functions as an
        argument: a closure would compile it in as a constant.
      size: tuples in an epoch.
      plan: `plan(arrays, key)` draws one epoch, a dict of arrays with leading axis `size`. Its
        entry `index` says which tuple of the split a row is.
      gather: `gather(arrays, rows)` makes the tuples of some rows of a plan: `(x, label)`.
      modalities: names in the order of the columns of `presence`.
      presence: `presence[index, m]` is true where modality m of that tuple is observed; None:
        everywhere.

    Raises:
      UserError: it is empty.
    """

    arrays: Arrays
    size: int
    plan: Callable[[Arrays, Key[Array, ""]], Plan]
    gather: Gather
    modalities: tuple[str, ...]
    presence: Bool[Array, "N M"] | Bool[np.ndarray, "N M"] | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"a split of {self.size} tuples: give at least one to train on and one to test on")

    def at_once(self, batch_size: int, wanted: int) -> int:
        """How many of the wanted steps one dispatch may take: all."""
        return wanted

    def feed(
        self, arrays: Arrays, plan: Plan, first: int, batch_size: int, at_once: int
    ) -> Callable[[int, int], tuple[Arrays, Plan]]:
        """A function that gives what the next steps of an epoch read: everything there is."""
        return lambda start, stop: (arrays, plan)

    def batch_of(self, arrays: Arrays, plan: Plan, step: Int[Array, ""], batch_size: int) -> Batch:
        """The batch of a training step, made of what `feed` gave; jittable."""
        return batch_at(self, arrays, plan, step % (self.size // batch_size) * batch_size, batch_size)

    @cached_property
    def identity(self) -> str:
        """The fingerprint of its arrays, labels included, and of some tuples made of them; presence plays no part."""
        tuples = take(self, jax.random.key(0), min(self.size, _SAMPLE))
        return fingerprint(*map(np.asarray, jax.tree.leaves((self.arrays, tuples.x, tuples.label))))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: its modalities, its two splits and where it came from.

    Attributes:
      name: the name used in reports.
      modalities: modality names, in the order of the columns of `Batch.present`.
      train: the training split. Classifiers are trained on all of its entries, absent ones included, NaN excepted.
      test: the test split; its tuples are the same under every key, only their order changes.
      num_classes: number of values of `Batch.label`.
      provenance: sources, counts and a sha256 fingerprint, for the configuration and the report.
      join: makes whole images of the modalities by name, where they are the parts of one.
      attributes: what every modality shows beside its class, where what is generated is scored by it.
      captioned: which modality describes which in words, where their correlation is measured.
      tasks: pictures that are to be made of others, by what that is called.
      sentences: modality -> the words or pieces of words that its class indices stand for, where these make up
        sentences that are scored as translations; see `symbols_to_text`.
    """

    name: str
    modalities: tuple[str, ...]
    train: Split
    test: Split
    num_classes: int
    provenance: dict[str, str] = field(default_factory=dict)
    join: Join | None = None
    attributes: Attributes | None = None
    captioned: Captioned | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict)
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, train: Mapping[str, Any], test: Mapping[str, Any], train_labels: Any, test_labels: Any) -> "Dataset":
        """Arrays with classes, by modality name.

        Args:
          train: what probes and classifiers are trained on, [N, *shape] of every modality.
          test: what a model is measured on, the same modalities.
          train_labels: the class of each training tuple, integers from 0 on.
          test_labels: of each test tuple.

        Raises:
          UserError: other modalities or classes in one than in the other, labels that are no such integers, or
            different lengths.
        """
        if list(train) != list(test):
            raise UserError(f"training data of {', '.join(train)}, test data of {', '.join(test)}: give the same")
        labels = [np.asarray(each) for each in (train_labels, test_labels)]
        for each in labels:
            if not np.issubdtype(each.dtype, np.integer) or each.ndim != 1 or each.min(initial=0) < 0:
                raise UserError(
                    f"labels of type {each.dtype} and shape {each.shape}: give an integer from 0 on a tuple"
                )
        if len(new := np.setdiff1d(labels[1], labels[0])):
            raise UserError(f"a test tuple of class {new[0]} and no training tuple: give both halves the same classes")
        splits = fixed_split(train, labels[0]), fixed_split(test, labels[1])
        return cls("arrays", tuple(train), *splits, num_classes=int(np.concatenate(labels).max(initial=-1)) + 1)


def fingerprint(*arrays: np.ndarray) -> str:
    """The sha256 of the shapes, types and bytes of arrays, which tells data sets apart."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def shuffle_tuples(tuples: Plan, key: Key[Array, ""]) -> Plan:
    """The rows of a plan in random order, `index` telling each row's place before."""
    index = jax.random.permutation(key, len(tuples["index"]))
    return {**jax.tree.map(lambda values: values[index], tuples), "index": index}


def fixed_order(size: int) -> Callable[[Arrays, Key[Array, ""]], Plan]:
    """The `plan` of tuples that never change: an epoch is a random permutation of them."""
    return lambda arrays, key: shuffle_tuples({"index": jnp.arange(size)}, key)


def fixed_plan(split: Split, key: Key[Array, ""]) -> Split:
    """The split with the tuples that `key` draws, in every epoch; only their order changes."""
    return replace(
        split,
        arrays=(split.arrays, jax.jit(split.plan)(split.arrays, key)),
        plan=lambda arrays, key: shuffle_tuples(arrays[1], key),
        gather=lambda arrays, rows: split.gather(arrays[0], rows),
    )


def fixed_split(
    x: Mapping[str, Array | np.ndarray],
    label: Int[Array, "N"] | Int[np.ndarray, "N"],
    presence: Bool[Array, "N M"] | Bool[np.ndarray, "N M"] | None = None,
) -> Split:
    """Split of a data set whose tuples never change: an epoch is a random permutation.

    Args:
      x: modality name -> array with leading axis N.
      label: the class of each tuple.
      presence: what is observed of each tuple, columns in the order of `x`; None: everything.

    Raises:
      UserError: the modalities, labels and presence differ in length.
    """
    size = len(label)
    lengths = {name: len(values) for name, values in x.items()}
    if set(lengths.values()) != {size}:
        raise UserError(f"modalities of lengths {lengths} with {size} labels: give each as many rows as labels")
    if presence is not None and presence.shape != (size, len(x)):
        raise UserError(f"presence has shape {presence.shape}: give one of shape {(size, len(x))}")
    arrays = (
        {name: jnp.asarray(values) for name, values in x.items()},
        jnp.asarray(label, jnp.int32),
    )
    return Split(
        arrays=arrays,
        size=size,
        plan=fixed_order(size),
        gather=lambda arrays, rows: jax.tree.map(lambda values: values[rows["index"]], arrays),
        modalities=tuple(x),
        presence=presence,
    )


def gather_batch(split: Split, arrays: Arrays, rows: Plan) -> Batch:
    """The batch of some rows of a plan, its presence looked up by the rows' `index`."""
    x, label = split.gather(arrays, rows)
    if split.presence is None:
        present = jnp.ones((len(label), len(split.modalities)), bool)
    else:
        present = jnp.asarray(split.presence)[rows["index"]]
    return Batch(x, present, label)


def batch_at(split: Split, arrays: Arrays, plan: Plan, start: Int[Array, ""] | int, batch_size: int) -> Batch:
    """The `batch_size` tuples of an epoch's plan from row `start` on; jittable in `start`.

    Args:
      split: where the functions come from (static under jit).
      arrays: `split.arrays`, passed as an argument so that jit does not compile them in.
      plan: `split.plan(arrays, key)`.
      start: first row. A start beyond `size - batch_size` is moved back to it, as by
        `lax.dynamic_slice`.
      batch_size: number of tuples, at most `split.size`.
    """
    rows = jax.tree.map(lambda values: lax.dynamic_slice_in_dim(values, start, batch_size), plan)
    return gather_batch(split, arrays, rows)


def take(split: Split, key: Key[Array, ""], n: int) -> Batch:
    """The first n tuples of the epoch that `key` draws, for evaluation and pictures.

    Raises:
      UserError: n is not between 1 and the size of the split.
    """
    if not 1 <= n <= split.size:
        raise UserError(f"{n} tuples asked of a split of {split.size}: ask for 1 to {split.size}")
    return batch_at(split, split.arrays, split.plan(split.arrays, key), 0, n)
