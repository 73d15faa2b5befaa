"""A scikit-learn estimator: multimodal VAEs in pipelines, cross-validation and searches."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self, cast

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy import sparse, stats
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.chunks import MAX_ENCODED, chunks, decoded_at_once
from mmvae_jax.evaluation.likelihood import log_likelihood
from mmvae_jax.loop import fit
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.rows import Rows
from mmvae_jax.saving import described, made
from mmvae_jax.training import Training

_SCORE, _IMPUTE, _DRAW = range(3)
_DESCRIBED = ("modalities", "model_")


class MultimodalVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A multimodal VAE that scikit-learn can clone, split data for, search over and put at the end of a pipeline.

    X of all methods is one of

    - a 2-D array or frame whose `columns` belong to the modalities, NaN where something is missing: a modality, or
      single values of one (of `modalities` of one's own those with `nan_missing`). The form for pipelines;
    - a dict from modality name to array, or to pandas frame; see `rows.Rows` for what is missing;
    - `Rows` of such a dict, which scikit-learn can split: the form for `cross_val_score` of pictures or class indices.

    Attributes:
      model_: the fitted `Model`, for all that the library does with one.
      params_: its parameters.
      n_features_in_: columns of an array that it was fitted to.
    """

    def __init__(
        self,
        model: str = "mopoe",
        latent_dim: int = 8,
        *,
        modalities: Sequence[Modality] | None = None,
        columns: Mapping[str, int] | None = None,
        hidden: Sequence[int] = (64,),
        scale: float = 0.5,
        private_dim: int = 0,
        steps: int = 1000,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        beta: float = 1.0,
        samples: int = 50,
        random_state: Any = None,
    ):
        """Keeps the settings; they are checked when it is fitted.

        Args:
          model: of the papers, a key of `zoo.MODELS`, with the objective that belongs to it.
          latent_dim: D.
          modalities: networks and likelihoods of one's own. Default: multilayer perceptrons and, for integers [N], a
            categorical likelihood, for all else a normal one.
          columns: of an array X, how many of its columns belong to each modality, in order. Default: as many as
            `modalities` have values, or all to a single one.
          hidden: widths of the default networks.
          scale: of the default normal likelihoods: the standard deviation of the noise, in the data's units.
          private_dim: of the default modalities' own latents.
          steps: of training.
          batch_size: tuples a step; at most all there are.
          learning_rate: Adam's.
          beta: weight of the KL to the prior.
          samples: draws from the posterior that `impute` and `score` average over.
          random_state: a seed or a NumPy generator; with a seed everything is the same again.
        """
        self.model = model
        self.latent_dim = latent_dim
        self.modalities = modalities
        self.columns = columns
        self.hidden = hidden
        self.scale = scale
        self.private_dim = private_dim
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta = beta
        self.samples = samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, presence: Any = None) -> Self:
        """Train.

        Args:
          X: samples, in one of the forms above.
          y: is not used.
          presence: booleans [N, M], which modalities of which sample were observed; default all that are not NaN.

        Raises:
          UserError: for settings or data that do not fit together.
        """
        rows = self._rows(X, presence, reset=True)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        modalities = self.modalities
        if modalities is None:
            modalities = [self._default(name, x[rows.present[name]]) for name, x in rows.data.items()]
        self.model_ = Model.of(self.model, modalities, self.latent_dim)
        training = Training.of(
            self.model,
            steps=self.steps,
            batch_size=min(self.batch_size, len(rows)),
            learning_rate=self.learning_rate,
            beta=self.beta,
        )
        data, present = self._for_model(rows)
        self.params_ = fit(self.model_, data, training, jax.random.key(self._seed), present, show=False).params
        self._n_features_out = self.latent_dim
        return self

    def fit_transform(self, X: Any, y: Any = None, presence: Any = None) -> Any:
        """`fit` and `transform` of the same samples, [N, D]."""
        return self.fit(X, y, presence).transform(X, presence)

    def transform(self, X: Any, presence: Any = None) -> Any:
        """The mean of q(z|X_A), A what was observed of each sample, [N, D]; a frame after `set_output`."""
        pieces = [
            np.asarray(_posterior_means(self.model_, self.params_, chunk.batch))[: chunk.size]
            for chunk in chunks(self._batch(X, presence), MAX_ENCODED)
        ]
        return np.concatenate(pieces)

    def score(self, X: Any, y: Any = None, presence: Any = None) -> float:
        """log p of what was observed, by importance sampling, in nats a sample: a bound from below, in expectation."""
        batch = self._batch(X, presence)
        return float(log_likelihood(self.model_, self.params_, self._key(_SCORE), batch, samples=self.samples).mean())

    def impute(self, X: Any, presence: Any = None, *, return_std: bool = False, draws: int = 0) -> Any:
        """What is missing, as the model expects it given what was observed of each sample; the latter stays as it is.

        Args:
          X: samples; of a dict modalities may be left out.
          presence: as in `fit`.
          return_std: give the standard deviation of p(x|X_A) as well, 0 where observed; of class indices the
            probability of any other class.
          draws: give so many draws of p(x|X_A) instead of its mean.

        Returns:
          Means (of class indices the most frequent one), or draws with one more axis in front, in the units of the
          model: an array for an array, a dict for all else. With `return_std` a pair of them.

        Raises:
          UserError: both deviations and draws are asked for.
        """
        if return_std and draws:
            raise UserError(f"return_std with draws={draws}: ask for one of them")
        batch = self._batch(X, presence)
        as_given = partial(self._as_given, isinstance(X, (Rows, Mapping)))
        if draws:
            return as_given(self._imputed(batch, draws, drawn=True))
        discrete = {m.name: m.discrete for m in self.model_.modalities}
        expected = self._imputed(batch, self.samples, drawn=False)
        means = {name: stats.mode(x).mode if discrete[name] else _mean(x) for name, x in expected.items()}
        if not return_std:
            return as_given(means)
        drawn = self._imputed(batch, self.samples, drawn=True)
        spread = {
            name: _mean(x != means[name]) if discrete[name] else x.std(0, np.float64) for name, x in drawn.items()
        }
        return as_given(means), as_given(spread)

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn should know of it: NaN is welcome, and embeddings are of single precision."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: of networks their description, as `save` writes it, for functions in them cannot be."""
        state = cast(dict[str, Any], super().__getstate__())
        return state | {name: described(state[name]) for name in _DESCRIBED if name in state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The reverse.

        Raises:
          UserError: it has networks that are not the library's.
        """
        super().__setstate__(state | {name: made(state[name]) for name in _DESCRIBED if name in state})

    def _key(self, purpose: int) -> Array:
        return jax.random.fold_in(jax.random.key(self._seed), purpose)

    def _default(self, name: str, x: np.ndarray) -> Modality:
        """A modality for observed values x."""
        shape, widths = x.shape[1:], tuple(self.hidden)
        if np.issubdtype(x.dtype, np.integer) and not shape:
            classes = int(x.max(initial=0)) + 1
            networks = MLPEncoder(widths, classes), MLPDecoder((classes,), widths)
            return Modality(name, shape, *networks, "categorical", private_dim=self.private_dim)
        networks = MLPEncoder(widths), MLPDecoder(shape, widths)
        return Modality(name, shape, *networks, "normal", self.scale, private_dim=self.private_dim, nan_missing=True)

    def _rows(self, X: Any, presence: Any = None, reset: bool = False) -> Rows:
        """Samples of every form."""
        if isinstance(X, Rows):
            return X if presence is None else X.only(presence)
        if isinstance(X, Mapping) and not sparse.issparse(X):  # some sparse matrices are mappings
            return Rows(X, presence)
        values: Any = X
        values = validate_data(self, values, reset=reset, dtype=np.float32, ensure_all_finite="allow-nan")
        shapes = self._shapes(values.shape[1])
        sizes = [math.prod(shape) for shape in shapes.values()]
        if sum(sizes) != values.shape[1]:
            taken = dict(zip(shapes, sizes, strict=True))
            raise UserError(f"X has {values.shape[1]} columns, the modalities take {sum(sizes)}, {taken}: give columns")
        parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
        named = zip(shapes.items(), parts, strict=True)
        return Rows({name: part.reshape(-1, *shape) for (name, shape), part in named}, presence)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """Of what the columns of an array hold."""
        if self.modalities is not None:
            return {m.name: m.shape for m in self.modalities}
        return {name: (count,) for name, count in (self.columns or {"x": width}).items()}

    def _for_model(self, rows: Rows) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Data and presence as the model takes them; class indices may come as floats, among which are NaN."""
        discrete = {m.name for m in self.model_.modalities if m.discrete}
        absent = np.zeros(len(rows), bool)
        data = {name: _indices(x, rows.present[name]) if name in discrete else x for name, x in rows.data.items()}
        return data, np.stack([rows.present.get(name, absent) for name in self.model_.names], -1)

    def _batch(self, X: Any, presence: Any) -> Batch:
        check_is_fitted(self)
        return self.model_.batch(*self._for_model(self._rows(X, presence)))

    def _imputed(self, batch: Batch, samples: int, drawn: bool) -> dict[str, np.ndarray]:
        """Imputations of every sample, [samples, N, *shape] by modality."""
        key = self._key(_DRAW if drawn else _IMPUTE)
        limit = max(1, decoded_at_once(self.model_, self.params_) // samples)
        pieces = []
        for chunk in chunks(batch, limit):
            found = _imputations(
                self.model_, samples, drawn, self.params_, jax.random.fold_in(key, chunk.index), chunk.batch
            )
            pieces.append({name: np.asarray(x)[:, : chunk.size] for name, x in found.items()})
        return {name: np.concatenate([piece[name] for piece in pieces], 1) for name in self.model_.names}

    def _as_given(self, by_name: bool, values: dict[str, np.ndarray]) -> Any:
        """A dict, or the columns of an array."""
        if by_name:
            return values
        shapes = {m.name: m.shape for m in self.model_.modalities}
        columns = [x.reshape(*x.shape[: x.ndim - len(shapes[name])], -1) for name, x in values.items()]
        return np.concatenate(columns, -1)


def _mean(x: np.ndarray) -> np.ndarray:
    """Over the draws; of equal ones exactly what they are."""
    return x.mean(0, np.float64).astype(np.float32)


def _indices(x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Whole numbers as integers, 0 where absent; others as they are, for the model to refuse."""
    filled = np.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
    return filled.astype(np.int32) if (filled == np.floor(filled)).all() else x


@partial(jax.jit, static_argnums=0)
def _posterior_means(model: Model, params: Params, batch: Batch) -> Float[Array, "B D"]:
    return model.infer(params, batch).mean()


@partial(jax.jit, static_argnums=(0, 1, 2))
def _imputations(model: Model, samples: int, drawn: bool, params: Params, key: Array, batch: Batch) -> dict[str, Array]:
    return model.impute(params, key, batch, samples=samples, draws=drawn)
