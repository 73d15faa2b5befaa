"""Orbax checkpoints of a run.

Orbax writes asynchronously and renames a finished checkpoint into place, so a killed run leaves
either a whole checkpoint or a temporary folder. What it does not notice is a damaged byte inside a
finished one: every checkpoint therefore carries the checksums of its files, which are compared
before Orbax reads them.
"""

import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import Array, Int, PyTree
from orbax.checkpoint import checkpoint_managers

from mmvae_jax import hosts
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.runs.folder import absolute, writing

_RECORD_FILE = "record.json"
_ORBAX_LOG = logging.getLogger("absl")


@runtime_checkable
class Stepped(Protocol):
    """A pytree that counts its optimizer steps, such as `training.TrainState`."""

    @property
    def step(self) -> Int[Array, ""]:
        """Optimisation steps taken."""
        ...


State = TypeVar("State", bound=Stepped)


class Checkpoints:
    """The checkpoints of one run, `<folder>/<step>/`: the last few, the one of the lowest loss, and one every so often.

    A context manager: leaving it waits for the save in flight. Opening and restoring never change
    what is there; the first save removes what a killed run or a damaged disk left.

    Args:
      folder: where the checkpoints are; created if it does not exist.
      keep_last: how many of the newest to keep besides the best one.
      every_steps: save when this many steps have passed since the last save; 0 for never.
      every_minutes: save when this many minutes have passed since the last save; 0 for never.
      keep_every: save at every multiple of this many steps, and keep those for good; 0 for none.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        keep_last: int = 2,
        *,
        every_steps: int = 0,
        every_minutes: float = 0,
        keep_every: int = 0,
    ):
        self._folder = absolute(folder)
        self._keep_last = keep_last
        self._every_steps = every_steps
        self._every_minutes = every_minutes
        self._keep_every = keep_every
        # Orbax logs the traceback of an error that it raises as well; a UserError takes one line.
        self._log_level = _ORBAX_LOG.level
        _ORBAX_LOG.setLevel(logging.CRITICAL)
        self._open()

    def _open(self) -> None:
        self._losses: dict[int, float] = {}
        self._unreadable: set[int] = set()
        self._swept = False
        self._saved_step = 0
        self._saved_time = time.monotonic()
        keep: list[checkpoint_managers.PreservationPolicy] = [
            checkpoint_managers.LatestN(self._keep_last),
            _Best(self._losses),
        ]
        if self._keep_every:
            keep.append(checkpoint_managers.EveryNSteps(self._keep_every))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.preservation_policy.AnyPreservationPolicy(keep),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_record),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        for step in self.steps():
            self._losses[step] = _recorded_loss(self._folder / str(step))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the save in flight and frees Orbax's threads.

        Raises:
          UserError: when the save in flight could not be written.
        """
        try:
            with self._writing():
                self._manager.close()
        finally:
            _ORBAX_LOG.setLevel(self._log_level)

    def steps(self) -> list[int]:
        """Steps of the checkpoints, oldest first, without those that `restore` could not read."""
        return [step for step in sorted(self._manager.all_steps()) if step not in self._unreadable]

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint saved with the lowest loss; None when there is no checkpoint."""
        return _lowest(self.steps(), self._losses)

    def clear(self) -> None:
        """Deletes every checkpoint (`--fresh`)."""
        self._manager.close()
        if hosts.first_process():
            self._folder.rmtree(missing_ok=True)
        hosts.wait_for_all("cleared")
        self._open()

    def save(self, state: Stepped, loss: float) -> bool:
        """Saves the state under its step in the background; False when that step is already saved.

        The arrays may be donated as soon as this returns.

        Args:
          state: a pytree of arrays (typed PRNG keys included).
          loss: smoothed training loss in nats; one that is not finite is never the best.
        Raises:
          UserError: when the checkpoint before could not be written.
        """
        step = int(state.step)
        if step in self.steps():
            return False
        self.wait()
        self._losses[step] = float(loss) if math.isfinite(loss) else math.inf
        self._saved_step = step
        self._saved_time = time.monotonic()
        with self._writing():
            self._sweep()
            self._manager.save(step, args=ocp.args.StandardSave(_storable(state)), force=True)
        return True

    def due(self, step: int) -> bool:
        """Whether to save: the step is one to keep, or enough steps or minutes have passed since the last save."""
        minutes = (time.monotonic() - self._saved_time) / 60
        due = 0 < self._every_steps <= step - self._saved_step or 0 < self._every_minutes <= minutes
        return due or (self._keep_every > 0 and step % self._keep_every == 0)

    def wait(self) -> None:
        """Blocks until the save in flight is on disk.

        Raises:
          UserError: when it could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def restore(self, template: State, report: Callable[[str], None]) -> State | None:
        """The newest readable checkpoint, bit for bit; None when there is none.

        Args:
          template: a fresh state, whose tree, dtypes, shardings and commitment to devices the
            restored arrays take: a compiled train step accepts either.
          report: told in one line when a damaged checkpoint was passed over.
        Raises:
          UserError: when there are checkpoints and none is readable.
        """
        self.wait()
        failures: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                state = self._read(step, template)
            except Exception as error:  # Orbax raises a plain Exception for an unreadable array
                failures[step] = one_line(error)
                continue
            if failures:
                report(f"{_damage(self._folder, failures)}; going back to step {step}")
            self._unreadable |= failures.keys()
            self._saved_step = step
            return state
        if failures:
            raise UserError(f"{_damage(self._folder, failures)}: use --fresh to start over")
        return None

    def restore_step(self, step: int, template: State) -> State:
        """One of `steps`, bit for bit.

        Args:
          step: of the checkpoint.
          template: as of `restore`.

        Raises:
          UserError: it cannot be read.
        """
        self.wait()
        try:
            return self._read(step, template)
        except Exception as error:  # Orbax raises a plain Exception for an unreadable array
            raise UserError(_damage(self._folder, {step: one_line(error)})) from error

    def _read(self, step: int, template: State) -> State:
        hosts.by_first(lambda: _check_files(self._folder / str(step)))
        targets = jax.tree.map(_restore_target, _storable(template))
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(targets))
        return jax.tree.map(_as_in_template, template, restored)

    def _writing(self) -> AbstractContextManager[None]:
        return writing(f"a checkpoint to {self._folder}", ValueError)

    def _write_record(self) -> None:
        """Orbax calls this on process 0, in its own thread, all files written and the checkpoint not yet finished."""
        step = self._saved_step
        # In a bucket, where nothing is renamed, it has its name from the start, and a file that says when it is whole.
        unfinished = next(self._folder.glob(f"{step}{ocp.utils.TMP_DIR_SUFFIX}*"), self._folder / str(step))
        items = [item for item in unfinished.iterdir() if item.is_dir()]
        files = sorted(path for item in items for path in _files(item))
        checksums = {str(path.relative_to(unfinished)): _checksum(path) for path in files}
        record = {"loss": self._losses[step], "crc32": checksums}
        (unfinished / _RECORD_FILE).write_text(json.dumps(record))

    def _sweep(self) -> None:
        """Removes, before the first save, unreadable checkpoints and unfinished ones."""
        if self._swept:
            return
        for step in self._unreadable:
            self._manager.delete(step)
        for unfinished in self._folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*") if hosts.first_process() else ():
            unfinished.rmtree(missing_ok=True)
        hosts.wait_for_all("swept")
        self._unreadable.clear()
        self._swept = True


@dataclass
class _Best(checkpoint_managers.PreservationPolicy):
    """Keeps the checkpoint of the lowest loss; `losses` is filled in by its owner."""

    losses: Mapping[int, float]

    def should_preserve(
        self,
        checkpoints: Sequence[Any],
        *,
        context: checkpoint_managers.PreservationContext,
    ) -> Sequence[bool]:
        best = _lowest([checkpoint.step for checkpoint in checkpoints], self.losses)
        return [checkpoint.step == best for checkpoint in checkpoints]


def _lowest(steps: Sequence[int], losses: Mapping[int, float]) -> int | None:
    return min(steps, key=lambda step: losses.get(step, math.inf), default=None)


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    """All below it; what `walk` says of a bucket's folders are no paths in a bucket."""
    for path in folder.iterdir():
        yield from _files(path) if path.is_dir() else (path,)


def _checksum(path: epath.Path) -> int:
    return zlib.crc32(path.read_bytes())


def _check_files(folder: epath.Path) -> None:
    """Raises a UserError unless a checkpoint's files are as they were written."""
    try:
        record = json.loads((folder / _RECORD_FILE).read_text())
        damaged = [name for name, checksum in record["crc32"].items() if _checksum(folder / name) != checksum]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(one_line(error)) from error
    if damaged:
        raise UserError(f"{damaged[0]} is damaged")


def _recorded_loss(folder: epath.Path) -> float:
    try:
        return float(json.loads((folder / _RECORD_FILE).read_text())["loss"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf


def _is_typed_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(tree: PyTree) -> PyTree:
    """The tree as arrays that Orbax can store: typed keys as their data, nothing of size zero."""

    def storable(leaf: Array) -> Array:
        if _is_typed_key(leaf):
            return jax.random.key_data(leaf)
        return leaf if leaf.size else jnp.zeros(1, leaf.dtype, device=leaf.sharding)

    return jax.tree.map(storable, tree)


def _restore_target(leaf: Array) -> jax.ShapeDtypeStruct | np.ndarray:
    """NumPy for an array not committed to its device: those that Orbax makes always are."""
    if leaf.committed:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.zeros(leaf.shape, leaf.dtype)


def _as_in_template(leaf: Array, restored: Array | np.ndarray) -> Array:
    if not leaf.size:
        return leaf
    array = restored if isinstance(restored, jax.Array) else jnp.array(restored)
    if _is_typed_key(leaf):
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
    if array.shape != leaf.shape:
        raise ValueError(f"it holds an array of shape {array.shape} in place of {leaf.shape}")
    return array


def _damage(folder: epath.Path, failures: Mapping[int, str]) -> str:
    newest, reason = next(iter(failures.items()))
    steps = ", ".join(str(step) for step in failures)
    which = f"checkpoint {steps}" if len(failures) == 1 else f"checkpoints {steps}"
    return f"{which} in {folder} cannot be read (step {newest}: {reason})"
