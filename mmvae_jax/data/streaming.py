"""Splits that do not fit into memory: tuples are read when a step needs them, by threads that read ahead.

The tuples are those of the device-resident split of the same data, in the same order. What a step reads follows from
the run's key and the step's number, so a checkpoint holds all there is to go on from, on any number of hosts.
"""

import os
import resource
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from mmvae_jax.data.batching import Batch, Plan, Split, fixed_order
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.sharding import host_rows, steps_over_devices, whole

Tuple = tuple[dict[str, np.ndarray], int]
Tuples = tuple[dict[str, np.ndarray], np.ndarray]
# Tuples by number: arrays by modality, and the class. Several threads read at once.
Source = grain.sources.RandomAccessDataSource[Tuple]
Streaming = Literal["auto", "on", "off"]

# The share of the memory that decoded training tuples may take before they are streamed: others need room as well.
_SHARE = 0.25
# Bytes of the steps that are on the device together; about as many wait on the host.
_WINDOW = 64 * 2**20
_THREADS = min(16, os.cpu_count() or 1)
_CONTAINERS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# Tuples that a thread reads in one go where many are asked for at once.
_PIECE = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Streamed(Split):
    """A split whose tuples are read from a source: `plan` may be jitted, `gather` reads on the host.

    Attributes:
      arrays: bytes that tell the source apart from others.
      source: where the tuples come from.
    """

    source: Source

    @cached_property
    def tuple_bytes(self) -> int:
        """The size of a tuple, decoded; all are of one size."""
        return sum(values.nbytes for values in self.source[0][0].values())

    def at_once(self, batch_size: int, wanted: int) -> int:
        """How many of the wanted steps one dispatch may take: their batches are on the device together."""
        return max(1, min(wanted, _WINDOW // (self.tuple_bytes * batch_size)))

    def feed(
        self, arrays: PyTree, plan: Plan, first: int, batch_size: int, at_once: int
    ) -> Callable[[int, int], tuple[Batch, int]]:
        """A function that gives what the next steps of an epoch read: batches [at_once, B, ...], and the first step."""
        batches = self.batches(plan, first, batch_size, host_rows(batch_size), at_once)

        def steps(start: int, stop: int) -> tuple[Batch, int]:
            taken = [next(batches) for _ in range(start, stop)]
            # Always as many, of which the last are not used: other shapes would be other programs.
            taken += taken[:1] * (at_once - len(taken))
            return steps_over_devices(jax.tree.map(lambda *values: np.stack(values), *taken)), start

        return steps

    def batches(
        self, plan: Plan, first: int, batch_size: int, rows: Int[np.ndarray, "R"], ahead: int
    ) -> Iterator[Batch]:
        """The batches of an epoch, read ahead by threads.

        Args:
          plan: of the epoch.
          first: number of the first one within the epoch.
          batch_size: tuples in a batch, those of all hosts.
          rows: which of them this host reads.
          ahead: about how many batches are read before they are asked for.
        """
        order = np.asarray(whole(plan["index"]))

        def batch(number: int) -> Batch:
            index = order[number * batch_size + rows]
            x, label = read(self.source, index)
            everything = np.ones((len(index), len(self.modalities)), bool)
            on_host: Any = (x, everything if self.presence is None else self.presence[index], label)
            return Batch(*on_host)

        threads = min(_THREADS, ahead)
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead + threads)
        return iter(grain.MapDataset.range(first, self.size // batch_size).map(batch).to_iter_dataset(reading))

    def batch_of(self, arrays: Batch, plan: Int[Array, ""], step: Int[Array, ""], batch_size: int) -> Batch:
        """The batch of a training step, out of what `feed` gave; jittable."""
        return jax.tree.map(lambda values: values[step - plan], arrays)


def streamed_split(
    source: Source,
    modalities: tuple[str, ...],
    identity: bytes,
    presence: Bool[Array, "N M"] | Bool[np.ndarray, "N M"] | None = None,
) -> Streamed:
    """The split of the tuples of a source; an epoch is the same permutation as that of `fixed_split`.

    Args:
      source: the tuples.
      modalities: their names.
      identity: tells the source apart from others: its name and version, or a digest of its files' names.
      presence: what is observed of each tuple, columns in the order of `modalities`; None: everything.

    Raises:
      UserError: presence has another shape.
    """
    size = len(source)
    if presence is not None and presence.shape != (size, len(modalities)):
        raise UserError(f"presence has shape {presence.shape}: give one of shape {(size, len(modalities))}")
    return Streamed(
        arrays=np.frombuffer(identity, np.uint8),
        size=size,
        plan=fixed_order(size),
        gather=lambda arrays, rows: jax.tree.map(jnp.asarray, read_together(source, np.asarray(rows["index"]))),
        modalities=modalities,
        presence=None if presence is None else np.asarray(presence),
        source=source,
    )


def read(source: Source, index: Int[np.ndarray, "B"]) -> Tuples:
    """Some tuples, one after the other."""
    x, label = zip(*(source[int(i)] for i in index), strict=True)
    return {name: np.stack([values[name] for values in x]) for name in x[0]}, np.array(label, np.int32)


def read_together(source: Source, index: Int[np.ndarray, "N"]) -> Tuples:
    """Some tuples, read by many threads; nothing is held twice."""
    whole = jax.tree.map(lambda one: np.empty((len(index), *one.shape[1:]), one.dtype), read(source, index[:1]))

    def put(start: int) -> None:
        piece = read(source, index[start : start + _PIECE])
        jax.tree.map(lambda place, values: place.__setitem__(slice(start, start + _PIECE), values), whole, piece)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(put, range(0, len(index), _PIECE)))
    return whole


def must_stream(streaming: Streaming, size: int) -> bool:
    """Whether training tuples of so many bytes are streamed; "auto" streams what takes over a quarter of the memory."""
    return streaming == "on" or (streaming == "auto" and size > _SHARE * memory())


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, its own limits', its container's or its device's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    limits += [int(text) for file in _CONTAINERS if file.exists() and (text := file.read_text().strip()).isdigit()]
    limits += [(device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices()]
    return min(limit for limit in limits if limit > 0)


class FromBuilder:
    """The tuples of a split of a data set of tensorflow_datasets, read without tensorflow.

    Args:
      builder: prepared with `file_format="array_record"`, which has random access.
      split: its name, such as "train".
      features: modality -> the feature that it is.
      label: the feature that is the class.
    """

    def __init__(self, builder: Any, split: str, features: Mapping[str, str], label: str = "label"):
        self._records = builder.as_data_source(split)
        self._features, self._label = features, label
        self.name = f"{builder.info.full_name}/{split}"

    def __len__(self) -> int:
        """Number of tuples."""
        return len(self._records)

    def __getitem__(self, index: int) -> Tuple:
        """One tuple."""
        try:
            record = self._records[index]
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"record {index} of {self.name} cannot be read ({one_line(error)}): prepare it again"
            ) from error
        return {name: np.asarray(record[key]) for name, key in self._features.items()}, int(record[self._label])
