"""A missing modality is equal to leaving it out: loss, gradient and posterior, for every objective."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Batch
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES, Options
from tests.oracle import LinearGaussian

EVERY_MASK = np.array(list(np.ndindex(2, 2, 2)), bool)


class LeftOut(NamedTuple):
    """A fusion and an objective, and what the models of three and of two modalities are told."""

    objective: str
    fusion: str
    options: dict[str, Any] = {}
    subsets: tuple[str, str] = ("", "")
    private_dim: int = 0
    training: Options = Options(expectation="all", importance_samples=3)


WITHOUT_PRIOR = {"prior_expert": "none"}
MMVAE = {"posterior": "laplace", "prior": "learned_scale"}
SAMPLED = Options(expectation="all", kl="sample")
LEFT_OUT = [
    LeftOut("elbo", "poe", private_dim=1),
    LeftOut("elbo", "poe_quotient", private_dim=1),
    LeftOut("elbo", "moe", {"empty_subset": True}, training=SAMPLED),
    LeftOut("elbo", "mopoe", {**WITHOUT_PRIOR, "empty_subset": True}, private_dim=1),
    LeftOut("elbo", "mopoe", {"prior_expert": "all"}, training=SAMPLED),
    LeftOut("elbo", "mopoe", WITHOUT_PRIOR, ("m0+m2,m1+m2,m1", "m0,m1,m1"), training=SAMPLED),
    LeftOut("powerset_elbo", "mopoe", WITHOUT_PRIOR),
    LeftOut("mvae", "poe", private_dim=1),
    LeftOut("mmjsd", "moe", private_dim=1),
    LeftOut("mvtcae", "poe", WITHOUT_PRIOR, private_dim=1),
    LeftOut("iwae", "mopoe", WITHOUT_PRIOR, private_dim=1),
    LeftOut("iwae_loose", "moe", MMVAE),
    LeftOut("dreg", "moe", MMVAE, private_dim=1),
    LeftOut("dreg_loose", "moe"),
    LeftOut("mmvae_plus", "moe", {**MMVAE, "auxiliary_prior": True}, private_dim=2),
    LeftOut("vaevae", "poe", WITHOUT_PRIOR),
    LeftOut("vaevae", "subset_networks"),
    LeftOut("svae", "poe", WITHOUT_PRIOR, private_dim=1),
    LeftOut("svae", "subset_networks", private_dim=1),
]


def restricted(params: Params, model: Model) -> tuple[Params, list[jax.Array]]:
    """What a smaller model has of a larger one's parameters, and all the rest."""
    networks = {network.name for network in model.networks}
    keep: dict[str, Any] = {}
    rest: list[jax.Array] = []
    for group, wanted in {
        "inference": networks,
        "decoders": set(model.names),
        "auxiliary_prior": set(model.names),
    }.items():
        if group in params:
            keep[group] = {name: value for name, value in params[group].items() if name in wanted}
            rest += jax.tree.leaves({name: value for name, value in params[group].items() if name not in wanted})
    if "prior" in params:
        keep["prior"] = params["prior"]
    return keep, rest


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("case", LEFT_OUT, ids=lambda c: f"{c.objective}-{c.fusion}-{c.training.kl}-{c.private_dim}")
def test_a_missing_modality_is_equal_to_leaving_it_out(case: LeftOut):
    """Three modalities with the third absent everywhere, and two: the same loss, gradients and posterior."""
    oracles = [LinearGaussian(dims, 2, private_dim=case.private_dim) for dims in ((4, 3, 5), (4, 3))]
    three, two = (
        oracle.model(case.fusion, subsets=chosen, joint_width=4, **case.options)
        for oracle, chosen in zip(oracles, case.subsets, strict=True)
    )
    params3 = oracles[0].params(three, shift=0.2)
    params2, _ = restricted(params3, two)
    if case.fusion == "poe_quotient":
        # The same variances are M/(M-1) sigmoid(v) of other raw outputs v.
        params2 = oracles[1].params(two, shift=0.2)
    batch = oracles[0].sample(jax.random.key(0), 8)
    present = EVERY_MASK & [True, True, False]
    if case.objective in ("dreg", "mmvae_plus"):
        # Where nothing is observed all components are the learned prior, and DReG of two or three equals differs in noise.
        present[~present.any(-1), :2] = True
    batch3 = batch._replace(present=jnp.asarray(present))
    batch2 = Batch({name: batch.x[name] for name in two.names}, batch3.present[:, :2], batch.label)
    results = []
    for model, params, observed in ((three, params3, batch3), (two, params2, batch2)):

        def loss(params: Params, model: Model = model, observed: Batch = observed) -> Any:
            value, _ = OBJECTIVES[case.objective].loss(model, params, jax.random.key(0), observed, 0.7, case.training)
            points = jax.random.normal(jax.random.key(1), (5, 8, 2))
            posterior = model.joint(params, model.encode(params, observed), observed.present)
            return value, posterior.log_prob(points)

        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(params))
    ((loss3, density3), gradient3), ((loss2, density2), gradient2) = results
    np.testing.assert_allclose(loss3, loss2, rtol=2e-6)
    np.testing.assert_allclose(density3, density2, rtol=1e-5, atol=1e-5)
    shared, absent = restricted(gradient3, two)
    assert absent
    assert all(np.all(np.asarray(leaf) == 0) for leaf in absent)
    if case.fusion == "poe_quotient":
        shared, gradient2 = map(without_log_variances, (shared, gradient2))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6 * largest), shared, gradient2)


def without_log_variances(gradient: Any) -> Any:
    """Of a head's gradient only that of the means, which do not depend on how variances are written."""
    heads = {name: jax.tree.map(lambda leaf: leaf[..., :2], value) for name, value in gradient["inference"].items()}
    return {**gradient, "inference": heads}
