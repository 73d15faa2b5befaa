"""What the papers compare with: a unimodal VAE, a conditional VAE, and classifiers under weak supervision.

`BASELINES` maps a name to a function (data, key, settings) -> predicted classes of the test data. After Wu & Goodman
(2018, section 5.1 and supplement, section 8), with scikit-learn's logistic regression and restricted Boltzmann machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import BernoulliRBM

from mmvae_jax import gaussian, likelihoods
from mmvae_jax.errors import UserError
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.loop import fit
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.networks.inference import InferenceNetwork
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.training import Training


def unimodal_vae(modality: Modality, latent_dim: int) -> Model:
    """The VAE of one modality (Kingma & Welling 2014): `q(z|x)` is the encoder's output, without a prior expert."""
    return Model((modality,), latent_dim, "poe", prior_expert="none")


@dataclass(frozen=True)
class CVAE:
    """The conditional VAE `p(x|y) = int p(x|z, y) N(z; 0, I) dz` (Sohn et al. 2015), with `q(z|x, y)`.

    Attributes:
      target: x; its decoder reads z and the features of y side by side, [N, D + F].
      condition: y; its encoder makes the features, one copy for q and one for p, and its decoder is not used.
      latent_dim: D.
      joint_width: hidden width of q.
    """

    target: Modality
    condition: Modality
    latent_dim: int
    joint_width: int = 512

    def init(self, key: Array) -> Params:
        """Fresh parameters."""
        inference_key, condition_key, decoder_key = jax.random.split(key, 3)
        x, y = self.target.example, self.condition.example
        condition = self.condition.encoder.init(condition_key, y).get("params", {})
        z = self._with_features({"condition": condition}, jnp.zeros((1, self.latent_dim)), y)
        return {
            "inference": self._inference.init(inference_key, x, y)["params"],
            "condition": condition,
            "decoder": self.target.decoder.init(decoder_key, z)["params"],
        }

    def posterior(self, params: Params, x: Num[Array, "B *shape"], y: Num[Array, "B ..."]) -> Gaussian:
        """q(z|x, y), leaves [B, D]."""
        return Gaussian.from_outputs(jnp.asarray(self._inference.apply({"params": params["inference"]}, x, y)))

    def decode(self, params: Params, z: Float[Array, "K B D"], y: Num[Array, "B ..."]) -> distrax.Distribution:
        """p(x|z, y), one batch entry per element of x."""
        z = self._with_features(params, z, y)
        output = jnp.asarray(self.target.decoder.apply({"params": params["decoder"]}, z.reshape(-1, z.shape[-1])))
        return self.target.distribution(output.reshape(*z.shape[:-1], *output.shape[1:]))

    def loss(self, params: Params, key: Array, x: Num[Array, "B *shape"], y: Num[Array, "B ..."]) -> Float[Array, ""]:
        """The negative bound `E_q[log p(x|z, y)] - KL(q(z|x, y) || N(0, I))` in nats, averaged over the batch."""
        posterior = self.posterior(params, x, y)
        log_likelihood = self._log_likelihood(params, posterior.sample(key, (1,)), x, y)[0]
        return jnp.mean(posterior.kl(gaussian.standard(self.latent_dim)) - log_likelihood)

    def log_likelihood(
        self, params: Params, key: Array, x: Num[Array, "B *shape"], y: Num[Array, "B ..."], samples: int
    ) -> Float[Array, "B"]:
        """log p(x|y) in nats by importance sampling, `log 1/K sum_k p(x|z_k, y) p(z_k) / q(z_k|x, y)`, K = samples."""
        posterior = self.posterior(params, x, y)
        z = posterior.sample(key, (samples,))
        log_ratio = gaussian.standard(self.latent_dim).log_prob(z) - posterior.log_prob(z)
        return jax.nn.logsumexp(self._log_likelihood(params, z, x, y) + log_ratio, axis=0) - jnp.log(samples)

    def generate(
        self, params: Params, key: Array, y: Num[Array, "B ..."], samples: int = 1
    ) -> Num[Array, "samples B *shape"]:
        """The mean (mode, for class indices) of p(x|z, y) at draws z of the prior."""
        z = jax.random.normal(key, (samples, len(y), self.latent_dim))
        return likelihoods.point_estimate(self.decode(params, z, y))

    def fit(
        self,
        x: Num[Array, "N *shape"],
        y: Num[Array, "N ..."],
        key: Array,
        steps: int,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
    ) -> Params:
        """Parameters after so many steps of Adam on pairs."""
        init_key, run_key = jax.random.split(key)
        return _descend(self.loss, self.init(init_key), (x, y), run_key, steps, batch_size, learning_rate)

    @property
    def _inference(self) -> InferenceNetwork:
        return InferenceNetwork((self.target.encoder, self.condition.encoder), 2 * self.latent_dim, self.joint_width)

    def _with_features(self, params: Params, z: Float[Array, "*K B D"], y: Num[Array, "B ..."]) -> Array:
        features = jnp.asarray(self.condition.encoder.apply({"params": params["condition"]}, y))
        return jnp.concatenate([z, jnp.broadcast_to(features, (*z.shape[:-1], features.shape[-1]))], -1)

    def _log_likelihood(
        self, params: Params, z: Float[Array, "K B D"], x: Num[Array, "B *shape"], y: Num[Array, "B ..."]
    ) -> Float[Array, "K B"]:
        return likelihoods.log_prob(self.decode(params, z, y), x, len(self.target.shape))


@dataclass(frozen=True)
class BaselineSettings:
    """How the baselines are trained.

    Attributes:
      encoder: of the network and of the VAE, x [B, ...] -> features [B, F].
      decoder_widths: hidden layers of the VAE's decoder.
      latent_dim: of the VAE.
      hidden_units: of the RBM.
      rbm_epochs: passes of the RBM through the data.
      steps: of Adam, for the network and the VAE.
      batch_size: of the network and the VAE.
      learning_rate: of Adam.
    """

    encoder: nn.Module = MLPEncoder((512, 512))
    decoder_widths: tuple[int, ...] = (512, 512)
    latent_dim: int = 64
    hidden_units: int = 128
    rbm_epochs: int = 20
    steps: int = 2000
    batch_size: int = 100
    learning_rate: float = 1e-3


class Data(NamedTuple):
    """What a baseline learns from and is asked about; unlabelled training rows have the label -1."""

    train_x: Float[np.ndarray, "N ..."]
    train_y: Int[np.ndarray, "N"]
    test_x: Float[np.ndarray, "T ..."]


def accuracy(
    name: str,
    train_x: Float[Array, "N ..."] | Float[np.ndarray, "N ..."],
    train_y: Int[Array, "N"] | Int[np.ndarray, "N"],
    test_x: Float[Array, "T ..."] | Float[np.ndarray, "T ..."],
    test_y: Int[Array, "T"] | Int[np.ndarray, "T"],
    key: Array,
    settings: BaselineSettings | None = None,
) -> float:
    """The fraction of test data that a baseline puts into the right class.

    Args:
      name: a key of `BASELINES`.
      train_x: pixels or other features in [0, 1].
      train_y: classes; -1 where there is no label. `vae` and `rbm` learn their features from all of train_x,
        everything else from labelled rows only.
      test_x, test_y: held-out data.
      key: PRNG key.
      settings: sizes and training.

    Raises:
      UserError: unknown name, unequal lengths, values outside [0, 1], or fewer than two classes among the labels.
    """
    data = Data(np.asarray(train_x), np.asarray(train_y), np.asarray(test_x))
    if name not in BASELINES:
        raise UserError(f"unknown baseline {name!r}: choose one of {', '.join(BASELINES)}")
    lengths = ((len(train_x), len(train_y)), (len(test_x), len(test_y)))
    if any(rows != labels for rows, labels in lengths):
        raise UserError(f"train and test have {lengths} (rows, labels): give one label a row, -1 for none")
    low, high = min(data.train_x.min(), data.test_x.min()), max(data.train_x.max(), data.test_x.max())
    if low < 0 or high > 1:
        raise UserError(f"features from {low:g} to {high:g}: scale them to [0, 1]")
    if len(np.unique(data.train_y[data.train_y >= 0])) < 2:
        raise UserError("labels of fewer than two classes: a classifier needs at least two")
    return float(np.mean(BASELINES[name](data, key, settings or BaselineSettings()) == np.asarray(test_y)))


def network(data: Data, key: Array, settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Supervised network: the encoder and one more layer, cross-entropy."""
    x, y = _labelled(data)
    module = nn.Sequential((settings.encoder, nn.Dense(int(y.max()) + 1)))

    def loss(params: Params, key: Array, x: Array, y: Array) -> Float[Array, ""]:
        logits = jnp.asarray(module.apply({"params": params}, x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    init_key, run_key = jax.random.split(key)
    params = module.init(init_key, x[:1])["params"]
    params = _descend(loss, params, (x, y), run_key, settings.steps, settings.batch_size, settings.learning_rate)
    return np.asarray(module.apply({"params": params}, data.test_x)).argmax(-1)


def logistic(data: Data, key: Array, settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Logistic regression on the features as they are."""
    return _read_out(data, _flat)


def rbm(data: Data, key: Array, settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Logistic regression on the hidden units of a restricted Boltzmann machine."""
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    machine = BernoulliRBM(settings.hidden_units, n_iter=settings.rbm_epochs, random_state=seed)
    machine.fit(_flat(data.train_x))
    return _read_out(data, lambda x: machine.transform(_flat(x)))


def vae(data: Data, key: Array, settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Logistic regression on the posterior means of a unimodal VAE with Bernoulli likelihood."""
    shape = data.train_x.shape[1:]
    modality = Modality("x", shape, settings.encoder, MLPDecoder(shape, settings.decoder_widths), "bernoulli")
    model = unimodal_vae(modality, settings.latent_dim)
    batch_size = min(settings.batch_size, len(data.train_x))
    training = Training("elbo", settings.steps, batch_size, settings.learning_rate)
    params = fit(model, {"x": data.train_x}, training, key).params
    return _read_out(data, lambda x: np.asarray(model.infer(params, {"x": x}).mean()))


BASELINES: dict[str, Callable[[Data, Array, BaselineSettings], Int[np.ndarray, "T"]]] = {
    "network": network,
    "logistic": logistic,
    "rbm": rbm,
    "vae": vae,
}


def _labelled(data: Data) -> tuple[np.ndarray, np.ndarray]:
    known = data.train_y >= 0
    return data.train_x[known], data.train_y[known]


def _flat(x: np.ndarray) -> Float[np.ndarray, "N F"]:
    return x.reshape(len(x), -1)


def _read_out(data: Data, features: Callable[[np.ndarray], np.ndarray]) -> Int[np.ndarray, "T"]:
    x, y = _labelled(data)
    return LogisticRegression(max_iter=1000).fit(features(x), y).predict(features(data.test_x))


def _descend(
    loss: Callable[..., Float[Array, ""]],
    params: Params,
    data: tuple[Any, ...],
    key: Array,
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> Params:
    """Adam on `loss(params, key, *batch)` with batches drawn at random, with replacement."""
    optimizer = optax.adam(learning_rate)

    @jax.jit
    def step(params: Params, state: optax.OptState, data: tuple[Array, ...], key: Array) -> tuple[Params, Any]:
        rows_key, noise_key = jax.random.split(key)
        rows = jax.random.randint(rows_key, (batch_size,), 0, len(data[0]))
        gradient = jax.grad(loss)(params, noise_key, *(values[rows] for values in data))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state, data = optimizer.init(params), tuple(map(jnp.asarray, data))
    for i in range(steps):
        params, state = step(params, state, data, jax.random.fold_in(key, i))
    return params
