"""The models and data that the benchmarks run."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from benchmarks import naive
from benchmarks.scales import Scale
from mmvae_jax.data.batching import Batch, Dataset, Split, fixed_split, take
from mmvae_jax.data.polymnist import polymnist
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.training import Training, TrainState, init_state

WIDTHS = (32, 64, 128)
SHAPE = (28, 28, 3)
# Steps enough that no benchmark comes to the end.
ENDLESS = 10**6


def polymnist_model(
    fusion: str,
    latent: int,
    modalities: int = 5,
    subsets: str = "",
    dtype: str = "float32",
    widths: tuple[int, ...] = WIDTHS,
) -> Model:
    """The networks of `--preset=paper`: encoders 32-64-128 and a dense layer as wide as the latent space."""
    encoder = ConvEncoder(widths, hidden=latent, dtype=jnp.dtype(dtype))
    decoder = ConvDecoder(SHAPE, widths[::-1], dtype=jnp.dtype(dtype))
    names = [f"m{i}" for i in range(modalities)]
    return Model(
        tuple(Modality(n, SHAPE, encoder, decoder, "laplace", 0.75, pixels=True) for n in names),
        latent,
        fusion,
        subsets,
    )


def naive_model(model: Model) -> Model:
    """The same model in the straightforward formulation; it takes the same parameters."""
    encoder, decoder = naive.ConvEncoder(WIDTHS, model.latent_dim), naive.ConvDecoder(WIDTHS[::-1])
    swapped = (replace(m, encoder=encoder, decoder=decoder) for m in model.modalities)
    return replace(model, modalities=tuple(swapped))


def paper_training(batch_size: int) -> Training:
    """The hyperparameters of `--preset=paper`."""
    return Training(steps=ENDLESS, batch_size=batch_size, learning_rate=1e-3, beta=2.5)


def dataset(data: str | None) -> Dataset:
    """PolyMNIST of a data folder, or the embedded one."""
    return polymnist(data or "embedded")


def random_split(modalities: int, size: int) -> Split:
    """Random pictures, for numbers of modalities that no data set has."""
    keys = jax.random.split(jax.random.key(0), modalities)
    x = {f"m{i}": jax.random.randint(k, (size, *SHAPE), 0, 256, "uint8") for i, k in enumerate(keys)}
    return fixed_split(x, jnp.zeros(size, jnp.int32))


def held_out(found: Dataset, size: int) -> Batch:
    """Test tuples."""
    return take(found.test, jax.random.key(0), size)


class Run(NamedTuple):
    """A model about to train."""

    model: Model
    training: Training
    split: Split
    state: TrainState
    plan: PyTree


def prepare(model: Model, split: Split, batch_size: int) -> Run:
    """A fresh state and an epoch's plan."""
    training = paper_training(batch_size)
    state = init_state(model, training, jax.random.key(0))
    return Run(model, training, split, state, jax.jit(split.plan)(split.arrays, jax.random.key(1)))


def polymnist_run(scale: Scale, data: str | None, fusion: str = "mopoe") -> Run:
    """The training of `--preset=paper`."""
    return prepare(polymnist_model(fusion, scale.latent), dataset(data).train, scale.batch)
