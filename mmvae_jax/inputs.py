"""Data as users give them, checked in one place: what is wrong is told in one line, with the first bad sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool

from mmvae_jax.data.batching import Batch, Split
from mmvae_jax.errors import UserError
from mmvae_jax.modality import Modality

Presence = Bool[Array, "B M"] | Bool[np.ndarray, "B M"]
# A value so many scales from 0 costs a decoder that starts there a thousand nats or more: a wrong unit.
MAX_SCALES = 1000


def as_batch(
    modalities: Sequence[Modality],
    classes: Mapping[str, int],
    data: Batch | Mapping[str, Any],
    presence: Presence | None = None,
) -> Batch:
    """A dict from modality name to array as a Batch; modalities left out are marked missing.

    Args:
      modalities: of the model.
      classes: name -> C, of modalities of class indices.
      data: arrays [B, *shape] by name, or a Batch, which is checked all the same.
      presence: which modalities of which sample were observed; default all that are in the data.

    Raises:
      UserError: for an unknown modality, unequal lengths, a wrong presence mask, or data that `checked` does not take.
    """
    if isinstance(data, Batch):
        present = data.present if presence is None else checked_presence(presence, data.present.shape) & data.present
        x = _all_checked(modalities, classes, data.x, present)
        return absent_where_nan(modalities, data._replace(x=x, present=jnp.asarray(present)))
    names = [m.name for m in modalities]
    unknown = [name for name in data if name not in names]
    if unknown or not data:
        what = f"unknown modality {unknown[0]!r}" if unknown else "no modality given"
        raise UserError(f"{what}: the model has {', '.join(names)}")
    sizes = {name: len(x) for name, x in data.items() if np.ndim(x)}
    if len(set(sizes.values())) > 1:
        raise UserError(f"modalities of different lengths {sizes}: give the same number of samples of each")
    size = next(iter(sizes.values()), 0)
    given = np.broadcast_to([name in data for name in names], (size, len(names)))
    present = given if presence is None else checked_presence(presence, given.shape) & given
    blank = {m.name: jnp.repeat(m.example, size, axis=0) for m in modalities}
    x = blank | _all_checked(modalities, classes, data, present)
    return absent_where_nan(modalities, Batch(x, jnp.asarray(present), jnp.full(size, -1, jnp.int32)))


def check_key(key: Any) -> None:
    """Whether something is a PRNG key.

    Raises:
      UserError: it is not.
    """
    if not isinstance(key, jax.Array):
        raise UserError(f"key={key!r}: give a PRNG key, such as jax.random.key(0)")


def check_params(params: Any) -> None:
    """Whether something is what `Model.init` makes; of which model is not looked at.

    Raises:
      UserError: it is not.
    """
    if not isinstance(params, Mapping) or not {"inference", "decoders"} <= params.keys():
        kind = type(params).__name__
        raise UserError(f"params of type {kind}: give what Model.init makes; of a state that fit returns, state.params")


def check_columns(names: Sequence[str], split: Split) -> None:
    """Whether the columns of a split's presence are the modalities of a model, in its order.

    Raises:
      UserError: they are not.
    """
    if split.presence is not None and tuple(split.modalities) != tuple(names):
        ours, theirs = ", ".join(names), ", ".join(split.modalities)
        raise UserError(f"columns of presence {theirs}, the model has {ours}: give the split these, in this order")


def absent_where_nan(modalities: Sequence[Modality], batch: Batch) -> Batch:
    """The batch with those modalities absent of which every element is missing."""
    present = batch.present
    for i, m in enumerate(modalities):
        elements = m.observed(batch.x[m.name]) if m.name in batch.x else None
        if elements is not None:
            some = jnp.any(elements, axis=tuple(range(1, elements.ndim)))
            present = present.at[:, i].set(present[:, i] & some)
    return batch._replace(present=present)


def checked_presence(presence: Any, shape: tuple[int, ...]) -> Presence:
    """A presence mask of the right type and shape.

    Raises:
      UserError: it is not.
    """
    presence = presence if isinstance(presence, jax.Array) else np.asarray(presence)
    if presence.dtype != bool:
        raise UserError(f"presence of type {presence.dtype}: give booleans, true where a modality was observed")
    if presence.shape != shape:
        raise UserError(f"presence has shape {presence.shape}: give one of shape {shape}")
    return presence


def _all_checked(
    modalities: Sequence[Modality], classes: Mapping[str, int], x: Mapping[str, Any], present: Presence
) -> dict[str, Array]:
    rows = None if isinstance(present, Tracer) else np.asarray(present)
    return {
        m.name: checked(m, x[m.name], None if rows is None else rows[:, i], classes.get(m.name))
        for i, m in enumerate(modalities)
        if m.name in x
    }


def checked(
    modality: Modality, x: Any, present: Bool[np.ndarray, "B"] | None = None, classes: int | None = None
) -> Array:
    """Data of a modality, as an array that its model takes.

    Args:
      modality: whose data.
      x: the data, [B, *shape].
      present: which samples count; default all.
      classes: C of class indices, if known.

    Raises:
      UserError: data of the wrong kind, shape or range, naming the first bad sample. Under `jit` only kind and shape
        can be looked at.
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    name = modality.name
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise UserError(f"{name}: data of type {x.dtype}: give an array of numbers, 0 and 1 for no and yes")
    if modality.discrete and not jnp.issubdtype(x.dtype, jnp.integer):
        raise UserError(f"{name}: data of type {x.dtype}: give class indices as integers")
    if x.ndim == 0 or x.shape[1:] != modality.shape:
        shape = x.shape[1:] if x.ndim else "of one number"
        raise UserError(f"{name}: data of shape {shape}, the modality is declared {modality.shape}")
    if len(x) == 0:
        raise UserError(f"{name}: no sample: give at least one")
    if not isinstance(x, Tracer):
        _check_values(modality, np.asarray(x), True if present is None else present, classes)
    return jnp.asarray(x)


def needs_a_look(modality: Modality, dtype: Any) -> bool:
    """Whether values of this type may be wrong: bytes that are pixels cannot."""
    return not (modality.pixels and dtype == np.uint8 and not modality.discrete)


def _check_values(
    modality: Modality, x: np.ndarray, present: Bool[np.ndarray, "B"] | bool, classes: int | None
) -> None:
    if not needs_a_look(modality, x.dtype):
        return

    def refuse(bad: np.ndarray, remedy: str) -> None:
        samples = bad.reshape(len(bad), -1).any(-1) & present
        if samples.any():
            first = int(samples.argmax())
            value = x[first][bad[first]].flat[0] if x.ndim > 1 else x[first]
            raise UserError(f"{modality.name}: value {value:g} in observed sample {first}: {remedy}")

    refuse(np.isinf(x), "mend it or mark it missing")
    if not modality.nan_missing:
        refuse(np.isnan(x), "mend it or mark it missing; of NaN for what is missing say nan_missing=True")
    if modality.discrete:
        if classes is not None:
            refuse(x >= classes, f"class indices go from 0 to {classes - 1}")
        if not modality.shape:  # of strings it is padding
            refuse(x < 0, "class indices go from 0 on; say by presence which are missing")
        return
    if modality.row.counts:
        refuse((x < 0) | (np.floor(x) < x), f"{modality.likelihood} takes counts, whole numbers of at least 0")
        return
    row, hint = modality.row, "" if modality.pixels else "; of pixels in 0..255 make uint8 and say pixels=True"
    low, high = (0.0, 1.0) if modality.pixels else (row.low, row.high)
    refuse((x < low) | (x > high), f"its values must lie in {low:g}..{high:g}: scale them{hint}")
    if row.scaled:
        far = np.abs(x.astype(np.float32)) > MAX_SCALES * np.asarray(modality.scale)
        refuse(far, f"that is over {MAX_SCALES} times scale={modality.scale}: standardise the data{hint}")
