"""The text networks' geometry: which characters a feature sees, and that padding is nothing."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmvae_jax.networks.text import TextDecoder, TextEncoder

KEY = jax.random.key(0)


def outputs(module: nn.Module, params: Any, x: jax.Array) -> np.ndarray:
    found: Any = module.apply(params, x)
    return np.asarray(found)


def test_networks_have_the_released_layers():
    """Conv1d 27-128 (1), 128-128 (4), 128-128 (4), and back; PyTorch counts kernel x in x out + out weights in each."""
    encoder = TextEncoder(27).init(KEY, jnp.zeros((1, 8), int))["params"]
    decoder = TextDecoder(8, 27).init(KEY, jnp.zeros((1, 20)))["params"]
    strided = 4 * 128 * 128 + 128
    counts = [sum(leaf.size for leaf in jax.tree.leaves(layer)) for layer in encoder.values()]
    assert counts == [27 * 128 + 128, strided, strided]
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(layer)) for name, layer in decoder.items()}
    assert sorted(counts.values()) == sorted([20 * 128 + 128, strided, strided, 128 * 27 + 27])


def test_every_character_reaches_the_features_and_padding_is_no_character():
    module = TextEncoder(5, width=16)
    x = jnp.arange(8)[None] % 5
    params = module.init(KEY, x)
    features = outputs(module, params, x)
    assert features.shape == (1, 16)
    for position in range(8):
        other = x.at[0, position].set(-1)
        assert not np.allclose(outputs(module, params, other), features), position
    np.testing.assert_array_equal(outputs(module, params, -jnp.ones((1, 8), int)), outputs(module, params, -7 + 0 * x))


def test_decoder_gives_logits_at_every_position_and_each_depends_on_the_latent():
    module = TextDecoder(8, 27, width=16)
    z = jax.random.normal(KEY, (3, 4))
    params = module.init(KEY, z)
    logits = outputs(module, params, z)
    assert logits.shape == (3, 8, 27)
    change = np.abs(outputs(module, params, 2 * z) - logits).max((0, 2))
    assert (change > 1e-3).all()
