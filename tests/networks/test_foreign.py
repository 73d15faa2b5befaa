"""Networks that are no Linen modules: plain objects with `init` and `apply`, and NNX modules."""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmvae_jax import Modality, Model, Training, fit, load, save
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder


@dataclass(frozen=True)
class Affine:
    """A plain object; its parameters are a pair."""

    outputs: int

    def init(self, key, x):
        return jax.random.normal(key, (x.shape[-1], self.outputs)), jnp.zeros(self.outputs)

    def apply(self, parameters, x):
        weight, bias = parameters
        return x @ weight + bias


class Layers(nnx.Module):
    """Of NNX, with a list of layers within."""

    def __init__(self, *widths: int, rngs: nnx.Rngs):
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nnx.List([nnx.Linear(inputs, outputs, rngs=rngs) for inputs, outputs in pairs])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


DATA = {name: np.random.default_rng(i).normal(size=(40, 3)).astype(np.float32) for i, name in enumerate("ab")}


def model_of(encoder, decoder) -> Model:
    """The first modality's networks are given, the second's the library's."""
    first = Modality("a", (3,), encoder, decoder)
    return Model((first, replace(first, name="b", encoder=MLPEncoder(()), decoder=MLPDecoder((3,), ()))), 2)


def test_a_plain_object_computes_what_linen_does():
    linen, plain = (
        model_of(MLPEncoder((4,), activation=lambda x: x), MLPDecoder((3,), ())),
        model_of(Affine(4), Affine(3)),
    )
    params = plain.init(jax.random.key(0))
    weight, bias = params["inference"]["a"]["trunks_0"]["network"]
    decoder = params["decoders"]["a"]["network"]
    same = linen.init(jax.random.key(0))
    same["inference"]["a"] |= {
        "trunks_0": {"Dense_0": {"kernel": weight, "bias": bias}},
        "head": params["inference"]["a"]["head"],
    }
    same["inference"]["b"], same["decoders"]["b"] = params["inference"]["b"], params["decoders"]["b"]
    same["decoders"]["a"] = {"Dense_0": {"kernel": decoder[0], "bias": decoder[1]}}
    expected, found = (model.infer(p, DATA).mean() for model, p in ((linen, same), (plain, params)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    z = found[:5]
    expected, found = (model.decode(p, z)["a"].mean() for model, p in ((linen, same), (plain, params)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_modules_of_nnx_are_trained():
    model = model_of(nnx.bridge.to_linen(Layers, 3, 5, 4), nnx.bridge.to_linen(Layers, 2, 3))
    start = model.init(jax.random.split(jax.random.key(0))[0])
    params = fit(model, DATA, Training(steps=3, batch_size=20, learning_rate=0.05), show=False).params
    for group in ("inference", "decoders"):
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), params[group]["a"], start[group]["a"])
        assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    "model",
    [model_of(Affine(4), Affine(3)), model_of(nnx.bridge.to_linen(Layers, 3, 5, 4), MLPDecoder((3,), ()))],
    ids=["plain", "nnx"],
)
def test_their_parameters_are_saved_and_loaded(model: Model, tmp_path: Path):
    params = model.init(jax.random.key(0))
    save(tmp_path, model, params)
    found, saved = load(tmp_path, model)
    assert found == model and jax.tree.structure(saved) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, saved, params)
