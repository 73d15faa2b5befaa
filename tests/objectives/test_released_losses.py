"""Losses against MultiVae's, see `golden/README.md`: complete and incomplete data, private latents, weights, beta 2.5."""

from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Batch
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.zoo import MODELS
from tests.by_hand import fix_noise
from tests.oracle import Identity

with np.load(Path(__file__).parents[1] / "golden" / "multivae_losses.npz") as file:
    GOLDEN = dict(file)
LATENT, PRIVATE = 3, 2


class Case(NamedTuple):
    """A row of the zoo, and what differs from it.

    Attributes:
      row: a key of `MODELS`.
      objective: in place of the row's own.
      private: with private latents.
      beta: the KL's weight.
      options: of the objective.
    """

    row: str
    objective: str = ""
    private: bool = False
    beta: float = 2.5
    options: Options = Options()


EXACT = Options(expectation="all")
STYLE = Options(expectation="all", beta_style=0.7)
THREE = Options(importance_samples=3)
CASES = {
    "poe": Case("poe", options=EXACT),
    "moe": Case("moe", options=EXACT),
    "mopoe": Case("mopoe", options=EXACT),
    "poe_private": Case("poe", private=True, options=STYLE),
    "moe_private": Case("moe", private=True, options=STYLE),
    "mopoe_private": Case("mopoe", private=True, options=STYLE),
    "mvae": Case("mvae"),
    "mvtcae": Case("mvtcae"),
    "jmvae": Case("jmvae"),
    "mmvae": Case("mmvae", beta=1.0, options=THREE),
    "mmvae_tight": Case("mmvae_tight", beta=1.0, options=THREE),
    "mmvae_gaussian": Case("moe", "iwae_loose", beta=1.0, options=THREE),
    "mmvae_tight_gaussian": Case("moe", "iwae", beta=1.0, options=THREE),
    "mmvae_plus": Case("mmvae_plus", private=True, options=THREE),
    "mmvae_plus_beta_1": Case("mmvae_plus", private=True, beta=1.0, options=THREE),
}


def model_of(case: Case) -> Model:
    """MultiVae's model."""
    row, private_dim = MODELS[case.row], PRIVATE * case.private
    modalities = (
        Modality("m0", (3,), Identity(), nn.Dense(3), "normal", 0.7, 1.0, private_dim),
        Modality("m1", (4,), Identity(), nn.Dense(4), "laplace", 0.75, 0.5, private_dim),
        Modality("m2", (5,), Identity(), nn.Dense(5), "bernoulli", 1.0, 2.0, private_dim),
    )
    return Model(modalities, LATENT, fusion=row.fusion, joint_width=4, **row.options)


def params_of(model: Model) -> Params:
    """MultiVae's weights; `mmvae_plus` keeps the standard prior of its shared latent."""
    params: dict[str, Any] = model.init(jax.random.key(0))
    for i, m in enumerate(model.modalities):
        head, decoder = _layer(f"encoder/{m.name}"), _layer(f"decoder/{m.name}")
        outputs = 2 * (LATENT + m.private_dim)
        params["inference"][m.name]["head"] = jax.tree.map(lambda leaf, n=outputs: leaf[..., :n], head)
        params["decoders"][m.name] = {**decoder, "kernel": decoder["kernel"][: LATENT + m.private_dim]}
        if model.auxiliary_prior:
            params["auxiliary_prior"][m.name] = jnp.asarray(GOLDEN[f"auxiliary/{m.name}"])
        if "m0+m1+m2" in params["inference"]:
            params["inference"]["m0+m1+m2"][f"Dense_{i}"] = _layer(f"joint/{m.name}")
            params["inference"]["m0+m1+m2"]["head"] = _layer("joint/head")
    if model.prior == "learned_scale" and not model.auxiliary_prior:
        params["prior"] = jnp.asarray(GOLDEN["prior"])
    return params


def _layer(name: str) -> dict[str, jax.Array]:
    return {part: jnp.asarray(GOLDEN[f"{name}/{part}"]) for part in ("kernel", "bias")}


@pytest.mark.parametrize("name", GOLDEN["cases"].tolist())
def test_losses_are_those_of_multivae(name, monkeypatch):
    case, model = CASES[name], model_of(CASES[name])
    # Draws of K samples are [K, S, B, D]; all others see the first noise only.
    noise = GOLDEN["noise"][:, None, None] if case.options == THREE else GOLDEN["noise"][0]
    fix_noise(monkeypatch, lambda dim: noise[..., :dim])
    params, objective = params_of(model), OBJECTIVES[case.objective or MODELS[case.row].objective]
    x = {m: jnp.asarray(GOLDEN[f"x/{m}"]) for m in model.names}

    @jax.jit
    def loss(present: jax.Array) -> jax.Array:
        batch = Batch(x, present, jnp.zeros(len(present), jnp.int32))
        return objective.loss(model, params, jax.random.key(1), batch, case.beta, case.options)[0]

    present, index = GOLDEN["present"], GOLDEN["cases"].tolist().index(name)
    np.testing.assert_allclose(loss(jnp.ones_like(present)), GOLDEN["complete"][index], rtol=1e-6)
    if np.isfinite(GOLDEN["incomplete"][index]):
        np.testing.assert_allclose(loss(jnp.asarray(present)), GOLDEN["incomplete"][index], rtol=1e-6)
