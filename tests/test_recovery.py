"""Training finds the parameters that counts and measurements were generated with."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmvae_jax import Modality, Model, Training, fit
from mmvae_jax.likelihoods import MIN_LEARNED_SCALE
from mmvae_jax.networks.mlp import MLPEncoder

N = 2000
RATE, MEAN, T, LOCATION, SPREAD, SCALE = 3.5, 6.0, 1.8, -1.2, 0.35, 0.5


class Constant(nn.Module):
    """A decoder that does not look at z, so that the maximum of the likelihood is known."""

    outputs: int

    @nn.compact
    def __call__(self, z):
        value = self.param("value", nn.initializers.zeros, (self.outputs,))
        return jnp.broadcast_to(value[0] if self.outputs == 1 else value, (len(z), *[2] * (self.outputs > 1)))


def generated() -> dict[str, np.ndarray]:
    """Numbers of every distribution; a fifth of them is missing."""
    rng = np.random.default_rng(0)
    x = {
        "poisson": rng.poisson(RATE, N),
        "negative_binomial": rng.negative_binomial(T, T / (T + MEAN), N),
        "normal_learned_scale": rng.normal(LOCATION, SPREAD, N),
        "laplace_learned_scale": rng.laplace(LOCATION, SPREAD, N),
    }
    return {name: np.where(rng.random(N) < 0.2, np.nan, values) for name, values in x.items()}


def information_of_t() -> float:
    """Fisher's, of one count: the variance of the score."""
    x = np.arange(2000)

    def nats(t: float) -> np.ndarray:
        return stats.nbinom.logpmf(x, t, t / (t + MEAN))

    score = (nats(T + 1e-4) - nats(T - 1e-4)) / 2e-4
    return float(np.sum(np.exp(nats(T)) * score**2))


@pytest.mark.slow
def test_known_parameters_are_recovered_within_three_standard_errors():
    data = generated()
    modalities = tuple(
        Modality(name, (), MLPEncoder(()), Constant(1 if name == "poisson" else 2), name, SCALE, nan_missing=True)
        for name in data
    )
    training = Training(steps=500, batch_size=N, learning_rate=0.05, schedule="cosine")
    params = fit(Model(modalities, 1, "poe"), data, training, show=False).params["decoders"]
    found = {name: np.asarray(value["value"], np.float64) for name, value in params.items()}
    known = {name: values[~np.isnan(values)] for name, values in data.items()}
    count = {name: len(values) for name, values in known.items()}
    assert all(0.75 * N < n < 0.85 * N for n in count.values())

    def learned(v: float) -> float:
        return SCALE * (MIN_LEARNED_SCALE + np.log1p(np.exp(v)))

    (rate,), (log_mean, log_t) = found["poisson"], found["negative_binomial"]
    (mean, v), (median, w) = found["normal_learned_scale"], found["laplace_learned_scale"]
    # Estimate, truth, standard deviation of the estimate times the root of the number of samples.
    checks = {
        "poisson": [(np.exp(rate), RATE, np.sqrt(RATE))],
        "negative_binomial": [
            (np.exp(log_mean), MEAN, np.sqrt(MEAN + MEAN**2 / T)),
            (np.exp(log_t), T, 1 / np.sqrt(information_of_t())),
        ],
        "normal_learned_scale": [(mean, LOCATION, SPREAD), (learned(v), SPREAD, SPREAD / np.sqrt(2))],
        "laplace_learned_scale": [(median, LOCATION, SPREAD), (learned(w), SPREAD, SPREAD)],
    }
    for name, estimates in checks.items():
        for estimate, truth, deviation in estimates:
            assert abs(estimate - truth) < 3 * deviation / np.sqrt(count[name]), name
    # And they are the likelihood's maximum, where that has a closed form.
    for name, estimate in (("poisson", np.exp(rate)), ("negative_binomial", np.exp(log_mean))):
        np.testing.assert_allclose(estimate, known[name].mean(), rtol=1e-3)
    normal, laplace = known["normal_learned_scale"], known["laplace_learned_scale"]
    np.testing.assert_allclose([mean, learned(v)], [normal.mean(), normal.std()], rtol=1e-3)
    deviation = np.abs(laplace - np.median(laplace)).mean()
    np.testing.assert_allclose([median, learned(w)], [np.median(laplace), deviation], rtol=1e-2)
