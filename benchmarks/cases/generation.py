"""What a trained model is asked for: likelihoods of tuples, and generation from every subset."""

import jax
import jax.numpy as jnp

from benchmarks.limits import decode_flops, encode_flops
from benchmarks.measure import Work
from benchmarks.models import dataset, held_out, polymnist_model
from benchmarks.scales import Scale
from mmvae_jax import subsets
from mmvae_jax.evaluation.likelihood import log_likelihood


def joint_likelihood(scale: Scale, data: str | None) -> Work:
    """log p(X) by importance sampling from the product of all experts, K = 1000, an image tuple."""
    work = _likelihood(scale, data, scale.samples)
    work.peer = {"job": "likelihood", "latent": scale.latent, "count": scale.images, "samples": scale.samples}
    return work


def samples(scale: Scale, data: str | None, k: int) -> Work:
    """Against K."""
    work = _likelihood(scale, data, scale.capped(k))
    work.notes["samples"] = scale.capped(k)
    return work


def _likelihood(scale: Scale, data: str | None, k: int) -> Work:
    model = polymnist_model("mopoe", scale.latent)
    params = model.init(jax.random.key(0))
    images = held_out(dataset(data), scale.images)

    def call() -> None:
        log_likelihood(model, params, jax.random.key(1), images, samples=k)

    return Work(call, "tuple", scale.images, encode_flops(model) + k * decode_flops(model))


def all_subsets(scale: Scale, data: str | None) -> Work:
    """Every modality's mean from one z ~ q(z|X_A), for all 31 subsets A of all tuples."""
    model = polymnist_model("mopoe", scale.latent)
    params = model.init(jax.random.key(0))
    batch = held_out(dataset(data), scale.tuples)
    masks = jnp.asarray(subsets.powerset(len(model.modalities)))
    keys = jax.random.split(jax.random.key(1), len(masks))
    encode = jax.jit(model.encode)

    @jax.jit
    def generate(params, codes, mask, key):
        return model.point_estimates(params, model.draw(params, codes, batch.present, mask, key))

    def call() -> None:
        codes = encode(params, batch)
        jax.block_until_ready([generate(params, codes, mask, key) for mask, key in zip(masks, keys, strict=True)])

    flops = scale.tuples * (encode_flops(model) + len(masks) * decode_flops(model))
    peer = {"job": "subsets", "latent": scale.latent, "count": scale.tuples}
    return Work(call, flops=flops, peer=peer)
