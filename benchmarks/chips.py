"""What a chip can do by its maker's word, and how long a compiled step would take on many of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.hlo import Collective


@dataclass(frozen=True)
class Chip:
    """Published peaks of a chip; https://docs.cloud.google.com/tpu/docs/v4, v5e and v5p.

    JAX multiplies float32 matrices on a TPU in one pass of bfloat16 by default, at the peak of `flops`; in three passes
    with `jax_default_matmul_precision=high`, in six with `highest`.

    Attributes:
      flops: of bfloat16, a second.
      bandwidth: of HBM, bytes a second.
      link: bytes a second of one interconnect link, one way; a chip has two for every axis of its torus.
      units: matrix units, 128 x 128 each. The clock follows: each multiplies and adds 128 x 128 numbers a cycle.
      closed: an axis is a ring, not a line, where its length is a multiple of this.
    """

    flops: float
    bandwidth: float
    link: float
    units: int
    closed: int

    @property
    def clock(self) -> float:
        """Cycles a second."""
        return self.flops / (self.units * 2 * 128**2)


# By `jax.Device.device_kind`.
CHIPS = {
    "TPU v4": Chip(275e12, 1228e9, 2400e9 / 8 / 6, 8, 4),
    "TPU v5 lite": Chip(197e12, 819e9, 1600e9 / 8 / 4, 4, 16),
    "TPU v5": Chip(459e12, 2765e9, 4800e9 / 8 / 6, 8, 4),
}
# What a message takes from a chip to the next one, whatever its size (https://jax-ml.github.io/scaling-book/sharding).
_HOP_SECONDS = 1e-6
# How often the bytes of its result a collective sends through a chip's links; a reduce-scatter's result is a share.
_PASSES = {"all-reduce": 2.0, "reduce-scatter": 1.0}


@dataclass(frozen=True)
class Step:
    """Seconds of a step: arithmetic at its peak, HBM at its, all kernels as the compiler estimates, and exchange."""

    arithmetic: float
    memory: float
    kernels: float
    exchange: float

    @property
    def on_chip(self) -> float:
        """The largest of those that every chip does for itself."""
        return max(self.arithmetic, self.memory, self.kernels)

    @property
    def seconds(self) -> float:
        """In all, if nothing is exchanged while something is computed."""
        return self.on_chip + self.exchange


def predict(
    chip: Chip, mesh: Mesh, flops: float, traffic: float, cycles: float, collectives: Sequence[Collective]
) -> Step:
    """The time of a step on a slice, the work of one of its chips given."""
    exchange = sum(exchange_seconds(chip, mesh, each) for each in collectives)
    return Step(flops / chip.flops, traffic / chip.bandwidth, cycles / chip.clock, exchange)


def exchange_seconds(chip: Chip, mesh: Mesh, collective: Collective) -> float:
    """Of rings and lines along all axes of the block of chips that exchange, at once.

    Chips that are no neighbours are taken to have one link each: the others' messages go through theirs as well.
    """
    if collective.group < 2:
        return 0.0
    whole, links, hops = _extent(mesh.devices.ravel().tolist()), 1, collective.group - 1
    if collective.apart == 1:
        axes = list(zip(_extent(mesh.devices.ravel()[: collective.group].tolist()), whole, strict=True))
        closed = [n == full and n % chip.closed == 0 for n, full in axes]
        links = sum((2 if ring else 1) for (n, _), ring in zip(axes, closed, strict=True) if n > 1)
        hops = sum(n / 2 if ring else n - 1 for (n, _), ring in zip(axes, closed, strict=True))
    size = collective.size * (collective.group if collective.kind == "reduce-scatter" else 1)
    passes = _PASSES.get(collective.kind, 1.0)
    moving = passes * size * (collective.group - 1) / collective.group / (links * chip.link)
    return collective.times * (moving + passes * hops * _HOP_SECONDS)


def _extent(devices: Sequence[Any]) -> tuple[int, ...]:
    """Of the box that holds some chips of the torus."""
    coordinates = np.array([device.coords for device in devices])
    return tuple(int(n) for n in coordinates.max(0) - coordinates.min(0) + 1)
