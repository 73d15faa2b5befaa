"""Every benchmark by name, with what it must reach. Imports no JAX, so that the parent of the workers stays small."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

FUSION_SIZES = tuple(range(2, 13))
PEER_FUSION_LIMIT = 10
POWERSET_SIZES = (2, 4, 6, 8, 10, 12)
RANDOM_SIZES = (4, 8, 12, 16)
BATCHES = (16, 32, 64, 128, 256, 512)
LATENTS = (32, 64, 128, 256, 512, 1024)
SAMPLES = (10, 30, 100, 300, 1000, 3000)
SEEDS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Entry:
    """A benchmark.

    Attributes:
      case: `module:function` within `benchmarks.cases`; the function takes (scale, data, *arguments) and returns the
        `measure.Work`.
      about: what one measurement is, a line.
      arguments: of the function.
      ratio: the largest allowed median time relative to the rival's.
      limit: the largest allowed multiple of the arithmetic limit.
      seconds: the largest allowed median time.
      memory_gib: the largest allowed peak memory.
    """

    case: str
    about: str
    arguments: tuple[Any, ...] = ()
    ratio: float | None = None
    limit: float | None = None
    seconds: float | None = None
    memory_gib: float | None = None

    def load(self) -> Any:
        """The function."""
        module, _, function = self.case.partition(":")
        return getattr(import_module(f"benchmarks.cases.{module}"), function)


def _train(fusion: str) -> Entry:
    return Entry("training:train", f"one training step, {fusion}, PolyMNIST", (fusion,), ratio=0.6, limit=2.0)


def _fusion(m: int) -> Entry:
    ratio, seconds = {10: (0.01, None), 12: (None, 0.6)}.get(m, (None, None))
    return Entry("fusing:fusion", f"{2**m - 1} fused posteriors and KLs", (m,), ratio=ratio, seconds=seconds)


def _random(m: int) -> Entry:
    about = f"training step, {m} modalities, 32 random subsets"
    return Entry("training:modalities", about, (m, "random:32"), memory_gib=4.0 if m == 16 else None)


ENTRIES: dict[str, Entry] = {
    **{f"train/{fusion}": _train(fusion) for fusion in ("poe", "moe", "mopoe")},
    "compile/cold": Entry("startup:compile_step", "trace and compile the training step", ("cold",)),
    "compile/cached": Entry("startup:compile_step", "the same with the persistent cache", ("cached",)),
    "start/imports": Entry("startup:imports", "a process that imports the experiment and ends"),
    "start/cold": Entry("startup:first_step", "process start to first step", ("cold",), seconds=15.0),
    "start/cached": Entry("startup:first_step", "the same with the compilation cache", ("cached",), seconds=8.0),
    "likelihood/joint": Entry("generation:joint_likelihood", "joint log-likelihood of an image tuple", ratio=0.5),
    "subsets/all": Entry("generation:all_subsets", "encode and decode all 31 subsets", ratio=0.4),
    "evaluate/full": Entry("storage:evaluation", "every metric, classifiers given"),
    "evaluate/classifiers": Entry("storage:classifiers", "training the classifiers of coherence"),
    "data/build": Entry("storage:build_data", "building PolyMNIST"),
    "data/epoch": Entry("storage:plan_epoch", "drawing an epoch's order, pairing and crops"),
    "data/batch": Entry("storage:compose_batch", "composing a batch on the device"),
    "checkpoint/save": Entry("storage:save", "a training state to disk, waited for"),
    "checkpoint/restore": Entry("storage:restore", "a training state from disk"),
    **{f"fusion/{m}": _fusion(m) for m in FUSION_SIZES},
    **{
        f"modalities/powerset-{m}": Entry("training:modalities", f"training step, {m} modalities, powerset", (m, ""))
        for m in POWERSET_SIZES
    },
    **{f"modalities/random-{m}": _random(m) for m in RANDOM_SIZES},
    **{f"batch/{size}": Entry("training:batch", f"training step, batch {size}", (size,)) for size in BATCHES},
    **{f"latent/{dim}": Entry("training:latent", f"training step, latent {dim}", (dim,)) for dim in LATENTS},
    **{f"samples/{k}": Entry("generation:samples", f"joint log-likelihood of a tuple, K={k}", (k,)) for k in SAMPLES},
    **{f"seeds/{n}": Entry("seeds:parallel", f"{n} seeds, one step each, under one vmap", (n,)) for n in SEEDS},
    "effects/convolutions": Entry("effects:convolutions", "training step against one with lax convolutions"),
    "effects/dispatch": Entry("effects:dispatch", "a dispatch a step against one lax.while_loop"),
    "effects/donation": Entry("effects:donation", "training step with donated state against one without"),
    "effects/copies": Entry("effects:copies", "moments updated in place in the loop against copied first"),
    "effects/uint8": Entry("effects:uint8", "composing from uint8 in the step against a float32 batch at hand"),
    "effects/heads": Entry("effects:heads", "one head for mean and log-variance against two"),
    "effects/powerset": Entry("effects:powerset", "255 products as one matrix product against a loop"),
    "effects/bfloat16": Entry("effects:bfloat16", "training step in bfloat16 against float32"),
}


def chosen(patterns: list[str]) -> list[str]:
    """The names that equal a pattern or lie under it (`train`, `train/poe`), in the catalogue's order; default all.

    Raises:
      ValueError: a pattern fits nothing.
    """
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in ENTRIES):
            groups = ", ".join(dict.fromkeys(name.partition("/")[0] for name in ENTRIES))
            raise ValueError(f"no benchmark {pattern!r}: choose among {groups}, or one of theirs like train/poe")
    return [name for name in ENTRIES if not patterns or any(_fits(name, pattern) for pattern in patterns)]


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}/")
