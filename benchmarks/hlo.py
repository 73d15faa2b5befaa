"""What a compiled TPU program does, read from its text: bytes moved, collectives, the compiler's estimate of cycles."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8, "c64": 8}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%(?P<name>[\w.-]+) = (?P<type>.*?) (?P<op>[a-z][\w-]*)\((?P<rest>.*)")
_COMPUTATION = re.compile(r"(?:ENTRY )?%([\w.-]+) .*\{")
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# They name what others have made, or wait for it.
_NO_WORK = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "while")


class Array(NamedTuple):
    """An array of a program.

    Attributes:
      shape: as `f32[2048,512]`.
      size: its bytes.
      padded: its bytes in tiles, as the chip stores it.
      in_hbm: it lies in the chip's large memory, not in that next to its arithmetic.
    """

    shape: str
    size: int
    padded: int
    in_hbm: bool


class Instruction(NamedTuple):
    """A line of a program; `text` is what follows its operation's name."""

    name: str
    op: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    text: str

    @property
    def cycles(self) -> int:
        """The compiler's estimate."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.text)
        return int(found[1]) if found else 0

    @property
    def source(self) -> str:
        """The operation in JAX that it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""

    def called(self, kind: str) -> str:
        """The computation that it names as its `body`, `condition`, `calls`."""
        found = re.search(rf"{kind}=%([\w.-]+)", self.text)
        return found[1] if found else ""


class Collective(NamedTuple):
    """An exchange between chips.

    Attributes:
      kind: all-reduce, all-gather, ...
      times: in a step.
      arrays: how many are exchanged together.
      size: bytes of what each chip ends with.
      source: the operation in JAX that it comes from.
      group: how many chips exchange with each other.
      apart: how far apart their numbers are, 1 for neighbours.
    """

    kind: str
    times: int
    arrays: int
    size: int
    source: str
    group: int
    apart: int


@dataclass(frozen=True)
class Program:
    """A compiled program; loops whose trip count is known are counted so often, others (the loop over steps) once."""

    text: str

    @cached_property
    def computations(self) -> dict[str, dict[str, Instruction]]:
        """Instructions by name, by the computation they are in."""
        found: dict[str, dict[str, Instruction]] = {}
        inside: dict[str, Instruction] = {}
        for line in self.text.splitlines():
            if match := _COMPUTATION.match(line):
                inside = found.setdefault(match[1], {})
            elif match := _INSTRUCTION.match(line):
                arguments = match["rest"].partition(")")[0]
                operands = tuple(re.findall(r"%([\w.-]+)", arguments))
                inside[match["name"]] = Instruction(
                    match["name"], match["op"], _arrays(match["type"]), operands, match["rest"]
                )
        return found

    @cached_property
    def loop(self) -> str:
        """The computation that one step is: the body of the largest loop, or else the whole."""
        (entry,) = re.findall(r"^ENTRY %([\w.-]+)", self.text, re.MULTILINE)
        bodies = [line.called("body") for line in self.computations[entry].values() if line.op == "while"]
        unknown = [body for body in bodies if body]
        return max(unknown, key=lambda body: len(self.computations[body])) if unknown else entry

    def work(self, computation: str = "", times: int = 1) -> Iterator[tuple[Instruction, str, int]]:
        """All instructions of a step that do something, the computation they are in and how often they run."""
        computation = computation or self.loop
        for line in self.computations[computation].values():
            if line.op == "while":
                yield from self.work(line.called("body"), times * self._trips(line))
            elif line.op not in _NO_WORK and "ConcatBitcast" not in line.text:
                yield line, computation, times

    def traffic(self, line: Instruction, computation: str) -> int:
        """Bytes that an instruction reads from HBM and writes to it, padding included."""
        if line.op.endswith("-done"):
            return 0
        if line.op.endswith("-start"):
            source, result = (*line.results, line.results[0])[:2]
            return (source.in_hbm + result.in_hbm) * result.padded
        inside = self.computations[computation]
        operands = [array for name in line.operands for array in inside[name].results]
        written, read = ([array.padded for array in some if array.in_hbm] for some in (line.results, operands))
        if "async_collective_fusion" in line.called("calls"):
            # Buffers of an exchange under way pass through kernels that have nothing to do with them.
            passing = {array.shape for array in operands} & {array.shape for array in line.results}
            return sum(
                array.padded for array in (*line.results, *operands) if array.in_hbm and array.shape not in passing
            )
        if re.search("gather|dynamic-slice", line.name + line.source):
            # Not more than what they choose of an array.
            read = [min(size, sum(array.padded for array in line.results)) for size in read]
        return sum(written) + sum(read)

    def collectives(self) -> list[Collective]:
        """Of one step, the largest first."""
        found = {}
        for line, where, times in self.work():
            called = line.called("calls")
            for inner in (line, *self.computations.get(called, {}).values()):
                kind, results = inner.op.removesuffix("-start"), inner.results
                if kind not in _COLLECTIVES:
                    continue
                if "all-reduce-scatter" in called:
                    kind, results = "reduce-scatter", line.results
                elif inner.op.endswith("-start"):
                    # What it reads comes first in its type, then what it makes.
                    results = results[len(line.operands) : 2 * len(line.operands)] or results
                # An exchange that spans several kernels is in each of them, under one name.
                name = re.search(r'chain_id="\d+"|channel_id=\d+', inner.text)
                size = sum(each.size for each in results)
                made = Collective(kind, times, len(results), size, inner.source, *_group(inner.text))
                found[where, kind, name[0] if name else inner.name] = made
        return sorted(found.values(), key=lambda each: -each.size * each.times)

    def _trips(self, line: Instruction) -> int:
        """How often a loop runs that counts up to a constant, as all but that over the steps do."""
        condition = self.computations[line.called("condition")].values()
        limits = [int(each.text.partition(")")[0]) for each in condition if each.op == "constant"]
        return limits[0] if len(limits) == 1 else 1


def _group(text: str) -> tuple[int, int]:
    """How many chips exchange with each other, and how far apart their numbers are."""
    ids = np.array([0])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        ids = np.array(_numbers(listed[1]))
    elif along := re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\))? \{(.*?)\}", text
    ):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", along[1])}
        chips = np.arange(math.prod(sizes.values()))
        if along[2]:
            chips = chips.reshape(_numbers(along[2])).transpose(_numbers(along[3]))
        together = re.findall(r"'(\w+)'", along[4])
        chosen = tuple(slice(None) if name in together else 0 for name in sizes)
        ids = chips.reshape(tuple(sizes.values()))[chosen].ravel()
    elif counted := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        chips = np.arange(int(counted[1]) * int(counted[2])).reshape(_numbers(counted[3]))
        chips = chips.transpose(_numbers(counted[4])) if counted[4] else chips
        ids = chips.reshape(int(counted[1]), -1)[0]
    return len(ids), int(ids[1] - ids[0]) if len(ids) > 1 else 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))


def _arrays(text: str) -> tuple[Array, ...]:
    return tuple(_array(*match.groups(default="")) for match in _ARRAY.finditer(text))


def _array(kind: str, dims: str, order: str, layout: str) -> Array:
    width = _BYTES.get(kind, 4)
    shape = [int(n) for n in dims.split(",") if n]
    minor_first = [shape[int(axis)] for axis in order.split(",") if axis] or shape[::-1]
    tile = re.match(r"T\(([\d,]+)\)", layout)
    padded = list(minor_first)
    for i, n in enumerate(reversed(tile[1].split(",")) if tile else ()):
        if i < len(padded):
            padded[i] = -(-padded[i] // int(n)) * int(n)
    return Array(f"{kind}[{dims}]", width * math.prod(shape), width * math.prod(padded), "S(" not in layout)
