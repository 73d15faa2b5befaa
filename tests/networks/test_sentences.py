"""The sentence networks of Table F.5: its layers, what a feature sees, and lengths that do not come out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.networks.sentences import SentenceDecoder, SentenceEncoder

KEY = jax.random.key(0)
SMALL = (4, 4, 8, 8)


def counts(module, x):
    params = jax.eval_shape(module.init, KEY, x)["params"]
    return {name: sum(leaf.size for leaf in jax.tree.leaves(layer)) for name, layer in params.items()}


def test_networks_have_the_tables_layers():
    encoder = counts(SentenceEncoder(1590), jnp.zeros((1, 32), int))
    widths = [(1, 32, 16), (32, 64, 16), (64, 128, 16), (128, 256, 4), (256, 512, 4)]
    convolutions = {f"Conv_{i}": k * a * b + b for i, (a, b, k) in enumerate(widths)}
    norms = {f"GroupNorm_{i}": 2 * b for i, (_, b, _) in enumerate(widths)}
    assert encoder == {"Embed_0": 1590 * 128, **convolutions, **norms}
    decoder = counts(SentenceDecoder(32, 1590), jnp.zeros((1, 64)))
    layers = [(64, 512, 16), *((b, a, k) for a, b, k in widths[::-1])]
    convolutions = {f"ConvTranspose_{i}": k * a * b + b for i, (a, b, k) in enumerate(layers)}
    norms = {f"GroupNorm_{i}": 2 * b for i, (_, b, _) in enumerate(layers[1:-1])}
    assert decoder == {**convolutions, **norms, "Dense_0": 128 * 1590 + 1590}
    # The map that the encoder leaves is what the decoder's first layer makes: 4x4x512.
    assert jax.eval_shape(lambda: SentenceEncoder(5).init_with_output(KEY, jnp.zeros((2, 32), int))[0]).shape == (
        2,
        8192,
    )


def test_every_word_reaches_the_features_of_its_sentence_and_of_no_other():
    module = SentenceEncoder(7, 32, SMALL)
    x = jnp.stack([jnp.arange(16) % 6, jnp.zeros(16, int)])
    features, params = module.init_with_output(KEY, x)
    for position in range(0, 16, 3):
        changed = np.asarray(module.apply(params, x.at[0, position].set(6)))
        assert not np.allclose(changed[0], features[0])
        np.testing.assert_allclose(changed[1], features[1], atol=1e-6)


def test_every_position_has_logits_that_depend_on_the_latent():
    module = SentenceDecoder(16, 7, 16, SMALL[::-1])
    z = jax.random.normal(KEY, (3, 4))
    logits, params = module.init_with_output(KEY, z)
    assert logits.shape == (3, 16, 7)
    change = np.abs(np.asarray(module.apply(params, -z)) - logits).max((0, 2))
    assert (change > 1e-6).all()


@pytest.mark.parametrize(("length", "embedding"), [(12, 16), (16, 24)])
def test_lengths_that_do_not_come_out_are_refused(length, embedding):
    with pytest.raises(UserError, match="give multiples of 8 and 16"):
        SentenceDecoder(length, 7, embedding, SMALL[::-1]).init(KEY, jnp.zeros((1, 2)))
