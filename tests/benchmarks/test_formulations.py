"""What the benchmarks time against each other gives the same numbers, and their arithmetic limit counts right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.cases.fusing import fused, random_experts
from benchmarks.cases.seeds import prepare_seeds, separately
from benchmarks.gpu import within_tolerance
from benchmarks.limits import decode_flops, encode_flops, step_flops
from benchmarks.models import naive_model, polymnist_model, random_split
from benchmarks.naive import products_one_by_one
from mmvae_jax import gaussian, subsets
from mmvae_jax.data.batching import gather_batch
from mmvae_jax.loop import make_stretch
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.training import Training, init_state

ROWS = 4


def closeness(ours, theirs) -> float:
    """The largest difference relative to the largest value, a leaf of the tree at a time."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.abs(a - b).max() / jnp.maximum(jnp.abs(b).max(), 1e-30)) for a, b in pairs)


def toy() -> Model:
    """Two small modalities on the random pictures."""
    shape = (28, 28, 3)
    return Model(tuple(Modality(f"m{i}", shape, MLPEncoder((8,)), MLPDecoder(shape, (8,))) for i in range(2)), 3)


def test_the_straightforward_networks_give_the_same_loss_and_gradient():
    model = polymnist_model("mopoe", 6, modalities=2)
    params = model.init(jax.random.key(0))
    split = random_split(2, ROWS)
    batch = gather_batch(split, split.arrays, {"index": jnp.arange(ROWS)})

    def loss(params, model):
        return OBJECTIVES["elbo"].loss(model, params, jax.random.key(1), batch, 1.0, Options())[0]

    values_and_gradients = [
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, m) for m in (model, naive_model(model))
    ]
    assert closeness(*values_and_gradients) < 1e-5


def test_all_products_at_once_are_those_one_by_one():
    experts = random_experts(4, batch=3, latent=5)
    mixture, kl = fused(experts)
    masks = subsets.powerset(4)
    expected = products_one_by_one(experts, masks)
    # MoPoE's released code lets the prior join the full subset's product only.
    ours, theirs = (jax.tree.map(lambda leaf: leaf[:-1], found) for found in (mixture.components, expected))
    assert closeness(ours, theirs) < 1e-5
    full = gaussian.product(experts, None, None, 1.0)
    kls = [*expected.kl(gaussian.standard(5))[:-1], full.kl(gaussian.standard(5))]
    np.testing.assert_allclose(kl, np.mean(kls, axis=0), rtol=1e-5)


def test_seeds_together_train_as_they_do_apart():
    split, training = random_split(2, 4 * ROWS), Training(steps=10, batch_size=ROWS)
    seeds = prepare_seeds(toy(), training, split, 3)
    apart = [seeds.alone(state, split.arrays, plan) for state, plan in separately(seeds)]
    keys = [jax.random.key_data(key) for key in seeds.states.key]
    assert not np.array_equal(keys[0], keys[1])
    together = seeds.together(seeds.states, split.arrays, seeds.plans)
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[state.params for state in apart])
    assert closeness(together.params, expected) < 1e-5


def test_one_dispatch_trains_as_many_do():
    split, training = random_split(2, 4 * ROWS), Training(steps=10, batch_size=ROWS)
    plan = split.plan(split.arrays, jax.random.key(1))
    tallies = []
    for one_dispatch in (True, False):
        state = init_state(toy(), training, jax.random.key(0))
        tallies.append(make_stretch(toy(), training, split, one_dispatch)(state, split.arrays, plan, 3))
    assert closeness(tallies[0].state.params, tallies[1].state.params) < 1e-5


def test_the_paper_s_step_takes_55_gflop():
    model = polymnist_model("mopoe", 512)
    encoder = [14 * 14 * 27 * 32, 7 * 7 * 288 * 64, 4 * 4 * 576 * 128, 2048 * 512, 512 * 1024]
    decoder = [512 * 2048, 4 * 4 * 128 * 576, 7 * 7 * 64 * 288, 14 * 14 * 32 * 27]
    assert encode_flops(model) == 5 * 2 * sum(encoder)
    assert decode_flops(model) == 5 * 2 * sum(decoder)
    assert step_flops(model, 256) == 256 * 5 * 2 * (3 * sum(encoder + decoder) - encoder[0])
    assert step_flops(model, 256) == pytest.approx(55e9, rel=0.02)


def test_a_gpu_that_differs_from_the_cpu_fails():
    assert within_tolerance({"loss": 1e-6}) == {"loss": 1e-6}
    with pytest.raises(AssertionError, match="'kls': 0.1"):
        within_tolerance({"loss": 1e-6, "kls": 0.1})
    with pytest.raises(AssertionError, match="loss"):
        within_tolerance({"loss": float("nan")})
