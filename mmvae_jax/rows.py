"""Samples of several modalities that can be indexed by row, as scikit-learn's splitters do."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Bool

from mmvae_jax.errors import UserError
from mmvae_jax.inputs import checked_presence


class Rows:
    """Arrays by modality, and which modality of which sample was observed.

    A modality of a sample is missing where `presence` says so, where all of its values are NaN, and where a pandas
    frame's index lacks the sample: frames are brought to the union of their indexes.

    Attributes:
      data: arrays [N, *shape] by name.
      present: [N] by name.
    """

    def __init__(self, data: Mapping[str, Any], presence: Any = None):
        """Of arrays, or of pandas frames and series.

        Args:
          data: [N, *shape] by name; all arrays or all frames.
          presence: booleans [N, M], columns in the order of `data`; default all that are not NaN.

        Raises:
          UserError: no modality, arrays among frames, an index with duplicates, different lengths, or a wrong presence
            mask.
        """
        if not data:
            raise UserError("no modality given: give arrays by name")
        self.data, given = _over_all_rows(data)
        lengths = {name: len(x) for name, x in self.data.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"modalities of different lengths {lengths}: give the same number of samples of each")
        if presence is not None:
            given &= checked_presence(presence, given.shape)
        self.present = {name: given[:, i] & ~_all_nan(x) for i, (name, x) in enumerate(self.data.items())}

    @property
    def shape(self) -> tuple[int, int]:
        """N, M."""
        return len(self), len(self.data)

    def __len__(self) -> int:
        """N."""
        return len(next(iter(self.present.values())))

    def only(self, presence: Any) -> "Rows":
        """What of the samples was observed and is said to be observed by a mask [N, M], too.

        Raises:
          UserError: a wrong mask.
        """
        return Rows(self.data, checked_presence(presence, self.shape) & np.stack(list(self.present.values()), -1))

    def __getitem__(self, rows: Any) -> "Rows":
        """Some of the samples."""
        data, present = ({name: x[rows] for name, x in each.items()} for each in (self.data, self.present))
        return Rows(data, np.stack(list(present.values()), -1))


def _over_all_rows(data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, "N M"]]:
    """Arrays and the rows that each has: all, or of frames those of its index."""
    frames = {name: x for name, x in data.items() if hasattr(x, "reindex")}
    if not frames:
        arrays = {name: np.atleast_1d(x) for name, x in data.items()}
        return arrays, np.ones((len(next(iter(arrays.values()))), len(arrays)), bool)
    for name, x in data.items():
        if name not in frames:
            raise UserError(f"{name} is no frame, but {next(iter(frames))} is: give all with an index, or none")
        if x.index.has_duplicates:
            raise UserError(f"{name}: its index has duplicates: give every sample a label of its own")
    index = reduce(lambda known, more: known.union(more, sort=False), (x.index for x in frames.values()))
    arrays = {name: x.reindex(index, fill_value=0).to_numpy() for name, x in frames.items()}
    return arrays, np.stack([index.isin(x.index) for x in frames.values()], -1)


def _all_nan(x: np.ndarray) -> Bool[np.ndarray, "N"]:
    if not np.issubdtype(x.dtype, np.floating):
        return np.zeros(len(x), bool)
    return np.asarray(np.isnan(x).reshape(len(x), -1).all(1))
