"""Where unconditional samples come from: the model's prior, or a density fitted after training to what it encodes.

`SAMPLERS` maps a name to a row; to add a sampler, add a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mmvae_jax.data.batching import Batch, Dataset, take
from mmvae_jax.evaluation.chunks import MAX_ENCODED, chunks
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.inputs import absent_where_nan
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density, GaussianMixture
from mmvae_jax.sharding import on_all_devices

MAX_FITTED = 10_000


@dataclass(frozen=True)
class Sampler:
    """A row of `SAMPLERS`.

    Attributes:
      function: (model, parameters, data set, key, components) -> the density, a pytree; None for the model's own prior.
      name: of the density, in captions.
    """

    function: Callable[[Model, Params, Dataset, Key[Array, ""], int], Density | None]
    name: str


def gaussian_mixture(
    model: Model, params: Params, dataset: Dataset, key: Key[Array, ""], components: int
) -> GaussianMixture:
    """A mixture of Gaussians fitted to the aggregated posterior (Ghosh et al. 2020, section 5).

    The prior has mass where no training tuple is encoded, and decoders were never trained there. The mixture is fitted
    by expectation maximisation to one z ~ q(z|X) of every training tuple, given all that was observed of it. Its
    components are diagonal: 50 of them do as well as the paper's 10 with full covariances.

    Args:
      model: any model.
      params: its parameters.
      dataset: at most 10,000 of its training tuples are encoded.
      key: PRNG key.
      components: of the mixture, at most one a tuple.
    """
    from sklearn import mixture  # takes long: whoever asks for --help need not wait for it

    take_key, draw_key, fit_key = jax.random.split(key, 3)
    train = absent_where_nan(model.modalities, take(dataset.train, take_key, min(dataset.train.size, MAX_FITTED)))
    z = posterior_draws(model, params, draw_key, train).astype(np.float64)
    seed = int(jax.random.randint(fit_key, (), 0, 2**31 - 1))
    found = mixture.GaussianMixture(min(components, len(z)), covariance_type="diag", random_state=seed).fit(z)
    weights, mean, variance = (
        jnp.asarray(values, jnp.float32) for values in (found.weights_, found.means_, found.covariances_)
    )
    return GaussianMixture(jnp.log(weights), Gaussian(mean, jnp.log(variance)))


def posterior_draws(model: Model, params: Params, key: Key[Array, ""], batch: Batch) -> Float[np.ndarray, "B D"]:
    """One z ~ q(z|X) of every tuple, given all that was observed of it."""
    pieces = [
        np.asarray(_draws(model, params, jax.random.fold_in(key, chunk.index), chunk.batch))[: chunk.size]
        for chunk in chunks(batch, MAX_ENCODED)
    ]
    return np.concatenate(pieces)


@on_all_devices(static=(0,))
def _draws(model: Model, params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, "B D"]:
    everything = np.ones(len(model.names), bool)
    return model.draw(params, model.encode(params, batch), batch.present, everything, key).z


SAMPLERS: dict[str, Sampler] = {
    "prior": Sampler(lambda *_: None, "the prior"),
    "gmm": Sampler(gaussian_mixture, "a mixture of Gaussians fitted to posterior draws"),
}
