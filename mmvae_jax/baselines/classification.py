"""Classifiers under weak supervision: a network, and logistic regression on features of three kinds.

`BASELINES` maps a name to a function (data, key, settings) -> predicted classes of the test data. After Wu & Goodman
(2018, section 5.1 and supplement, section 8), with scikit-learn's logistic regression and restricted Boltzmann machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key
from sklearn.neural_network import BernoulliRBM

from mmvae_jax.baselines.descent import descend
from mmvae_jax.baselines.models import unimodal_vae
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.evaluation.chunks import MAX_ENCODED
from mmvae_jax.evaluation.probe import posterior_means, told
from mmvae_jax.loop import fit
from mmvae_jax.modality import Modality
from mmvae_jax.model import Params
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.training import Training


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
    key: Key[Array, ""],
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
    check_choice(name, BASELINES, "baseline")
    lengths = ((len(train_x), len(train_y)), (len(test_x), len(test_y)))
    if any(rows != labels for rows, labels in lengths):
        raise UserError(f"train and test have {lengths} (rows, labels): give one label a row, -1 for none")
    low, high = min(data.train_x.min(), data.test_x.min()), max(data.train_x.max(), data.test_x.max())
    if low < 0 or high > 1:
        raise UserError(f"features from {low:g} to {high:g}: scale them to [0, 1]")
    if len(np.unique(data.train_y[data.train_y >= 0])) < 2:
        raise UserError("labels of fewer than two classes: a classifier needs at least two")
    return float(np.mean(BASELINES[name](data, key, settings or BaselineSettings()) == np.asarray(test_y)))


def network(data: Data, key: Key[Array, ""], settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Supervised network: the encoder and one more layer, cross-entropy."""
    x, y = _labelled(data)
    module = nn.Sequential((settings.encoder, nn.Dense(int(y.max()) + 1)))

    def loss(params: Params, key: Key[Array, ""], x: Array, y: Array) -> Float[Array, ""]:
        logits = jnp.asarray(module.apply({"params": params}, x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    init_key, run_key = jax.random.split(key)
    params = module.init(init_key, jnp.asarray(x[:1]))["params"]
    params = descend(loss, params, (x, y), run_key, settings.steps, settings.batch_size, settings.learning_rate)
    pieces = np.array_split(data.test_x, -(-len(data.test_x) // MAX_ENCODED))
    return np.concatenate([np.asarray(module.apply({"params": params}, jnp.asarray(x))).argmax(-1) for x in pieces])


def logistic(data: Data, key: Key[Array, ""], settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Logistic regression on the features as they are."""
    return _read_out(data, _flat)


def rbm(data: Data, key: Key[Array, ""], settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Logistic regression on the hidden units of a restricted Boltzmann machine."""
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    machine = BernoulliRBM(settings.hidden_units, n_iter=settings.rbm_epochs, random_state=seed)
    machine.fit(_flat(data.train_x))
    return _read_out(data, lambda x: machine.transform(_flat(x)))


def vae(data: Data, key: Key[Array, ""], settings: BaselineSettings) -> Int[np.ndarray, "T"]:
    """Logistic regression on the posterior means of a unimodal VAE with Bernoulli likelihood."""
    shape = data.train_x.shape[1:]
    modality = Modality("x", shape, settings.encoder, MLPDecoder(shape, settings.decoder_widths), "bernoulli")
    model = unimodal_vae(modality, settings.latent_dim)
    batch_size = min(settings.batch_size, len(data.train_x))
    training = Training("elbo", settings.steps, batch_size, settings.learning_rate)
    params, image = fit(model, {"x": data.train_x}, training, key).params, np.ones((1, 1), bool)
    return _read_out(data, lambda x: posterior_means(model, params, key, model.batch({"x": x}), image)[0])


BASELINES: dict[str, Callable[[Data, Key[Array, ""], BaselineSettings], Int[np.ndarray, "T"]]] = {
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
    return told(features(x), y, features(data.test_x))
