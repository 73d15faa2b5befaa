"""A model's inference, decoding and generation against the linear-Gaussian oracle, and a user's mistakes."""

from dataclasses import replace
from typing import Any, get_args

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmvae_jax import Training, fit, save, subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import evaluate
from mmvae_jax.fusion import FUSIONS, PriorExpert
from mmvae_jax.laplace import Laplace
from mmvae_jax.likelihoods import LIKELIHOODS, Likelihood
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvEncoder
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.training import TrainState
from tests import toy
from tests.oracle import Identity, LinearGaussian

ORACLE = LinearGaussian((3, 2, 4), latent_dim=2)
PRIVATE = LinearGaussian((5, 4), latent_dim=2, private_dim=1)
DATA = ORACLE.sample(jax.random.key(0), 6)


def assert_is_exact_posterior(q: Any, x: dict[str, jax.Array], subset: tuple[str, ...]) -> None:
    exact = ORACLE.exact_posterior(x, subset)
    np.testing.assert_allclose(q.components.mean[0], exact.mean, rtol=1e-4, atol=1e-5)
    variance = np.exp(np.asarray(q.components.log_var[0], np.float64))
    np.testing.assert_allclose(variance, np.broadcast_to(np.diag(exact.covariance), variance.shape), rtol=1e-5)


@pytest.mark.parametrize(("fusion", "experts"), [("poe_quotient", "posterior"), ("poe", "likelihood")])
def test_posteriors_of_all_subsets_are_exact(fusion, experts):
    model = ORACLE.model(fusion)
    params = ORACLE.params(model, experts)
    infer = jax.jit(model.infer, static_argnums=2)
    for mask in subsets.powerset(3):
        names = tuple(np.array(ORACLE.names)[mask])
        assert_is_exact_posterior(infer(params, DATA, names), DATA.x, names)
    alone = model.infer(params, {"m1": DATA.x["m1"]})
    assert_is_exact_posterior(alone, DATA.x, ("m1",))


def test_missing_entries_are_told_by_the_mask_alone():
    """Each tuple is inferred from what it has, whatever stands in place of the rest."""
    model = ORACLE.model("poe")
    params = ORACLE.params(model, "likelihood")
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
    x = {name: jnp.where(present[:, [i]], DATA.x[name], jnp.nan) for i, name in enumerate(ORACLE.names)}
    q: Any = model.infer(params, Batch(x, jnp.asarray(present), DATA.label))
    for b, row in enumerate(present):
        exact = ORACLE.exact_posterior(DATA.x, tuple(np.array(ORACLE.names)[row]))
        np.testing.assert_allclose(q.components.mean[0, b], exact.mean[b], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.exp(q.components.log_var[0, b]), np.diag(exact.covariance), rtol=1e-5)


def test_private_latents_have_their_own_posteriors_and_the_prior_where_absent():
    model = PRIVATE.model("poe")
    params = PRIVATE.params(model, "likelihood")
    batch = PRIVATE.sample(jax.random.key(1), 3)._replace(
        present=jnp.array([[True, True], [True, False], [False, True]])
    )
    codes: Any = model.encode(params, batch)
    for i, name in enumerate(PRIVATE.names):
        loading = PRIVATE.loadings[i][:, 2:]
        precision = 1 + (loading**2).sum(0) / PRIVATE.noise**2
        mean = (np.asarray(batch.x[name]) - PRIVATE.biases[i]) @ loading / PRIVATE.noise**2 / precision
        seen = np.asarray(batch.present[:, [i]])
        np.testing.assert_allclose(codes.private[name].mean, np.where(seen, mean, 0), rtol=1e-4, atol=1e-5)
        log_var = np.where(seen, -np.log(precision), 0)
        np.testing.assert_allclose(
            codes.private[name].distribution.entropy(), (0.5 * log_var + 1.4189385).sum(-1), 1e-5
        )


def test_quotient_is_defined_for_all_encoder_outputs():
    """Precision of the product of all modalities stays positive for raw outputs in [-30, 30], with finite gradients."""
    for m in (2, 3, 16):
        oracle = LinearGaussian((2,) * m, latent_dim=2)
        model = oracle.model("poe_quotient")
        batch = oracle.sample(jax.random.key(2), 1)
        params = model.init(jax.random.key(3))

        def total(raw, model=model, params=params, batch=batch):
            heads = {
                name: {"head": {"kernel": jnp.zeros((2, 4)), "bias": jnp.array([0.3, -0.2, 0, 0]).at[2:].set(raw[i])}}
                for i, name in enumerate(model.names)
            }
            codes = model.encode({**params, "inference": heads}, batch)
            q: Any = model.joint(params, codes, batch.present)
            return q.components.log_var.sum(), q.components.mean

        raws = np.random.default_rng(4).uniform(-30, 30, (50, m, 1))
        raws = np.concatenate([raws, np.full((1, m, 1), 30.0), np.full((1, m, 1), -30.0), np.full((1, m, 1), 8.0)])
        (log_var, mean), gradient = jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))(jnp.asarray(raws))
        assert np.all(np.isfinite(log_var))
        assert np.all(np.isfinite(mean))
        assert np.all(np.isfinite(gradient))
        # T = (M-1)/M sum_m e^-v_m over two dimensions.
        np.testing.assert_allclose(log_var[-1], -2 * np.log((m - 1) * np.exp(-8.0)), atol=0.02)
        np.testing.assert_allclose(log_var[-2], -2 * (30 + np.log(m - 1)), rtol=1e-5)


def test_log_likelihoods_are_unweighted_and_zero_where_absent():
    model = ORACLE.model("poe")
    model = replace(model, modalities=tuple(replace(m, weight=7.0) for m in model.modalities))
    params = ORACLE.params(model)
    batch = DATA._replace(present=jnp.asarray(np.arange(18).reshape(6, 3) % 2 == 0))
    z = jax.random.normal(jax.random.key(5), (4, 6, 2))
    values = model.log_likelihoods(params, z, batch)
    for i, name in enumerate(ORACLE.names):
        mean = np.asarray(z) @ ORACLE.loadings[i].T + ORACLE.biases[i]
        expected = stats.norm.logpdf(np.asarray(DATA.x[name]), mean, ORACLE.noise).sum(-1)
        np.testing.assert_allclose(values[..., i], np.where(batch.present[:, i], expected, 0.0), rtol=1e-4, atol=1e-4)


def test_pixels_are_scaled_and_classes_are_not():
    """uint8 images become [0, 1]; uint8 labels stay labels."""
    model = toy.model("poe", ("bernoulli", "label"))
    params = model.init(jax.random.key(6))
    data = toy.data(("bernoulli", "label"), 5)
    z = jnp.zeros((5, 3))
    as_floats = {"bernoulli": data["bernoulli"] / 255.0, "label": data["label"]}
    as_bytes = {"bernoulli": data["bernoulli"], "label": data["label"].astype(jnp.uint8)}
    expected = model.log_likelihoods(params, z, model.batch(as_floats))
    np.testing.assert_array_equal(model.log_likelihoods(params, z, model.batch(as_bytes)), expected)
    np.testing.assert_array_equal(
        model.infer(params, as_bytes).components.mean, model.infer(params, as_floats).components.mean
    )


def test_unconditional_generation_has_the_models_moments():
    model, n = PRIVATE.model("moe"), 40_000
    params = PRIVATE.params(model)
    generated = model.generate(params, jax.random.key(7), samples=n)
    both = np.concatenate([generated[name] for name in PRIVATE.names], 1)
    covariance = np.block(
        [
            [a[:, :2] @ b[:, :2].T + (i == j) * a[:, 2:] @ b[:, 2:].T for j, b in enumerate(PRIVATE.loadings)]
            for i, a in enumerate(PRIVATE.loadings)
        ]
    )
    error = np.sqrt(np.diag(covariance) / n)
    assert np.abs((both.mean(0) - np.concatenate(PRIVATE.biases)) / error).max() < 4.5
    products = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2)
    assert np.abs((np.cov(both.T) - covariance) / (products / np.sqrt(n))).max() < 4.5


def test_cross_generation_predicts_the_other_modality():
    """m1 from m0: through the exact posterior, with m1's private latent from its prior."""
    model, n = PRIVATE.model("poe"), 20_000
    params = PRIVATE.params(model, "likelihood")
    x = PRIVATE.sample(jax.random.key(8), 3).x
    drawn = model.generate(params, jax.random.key(9), given={"m0": x["m0"]}, to=("m1",), samples=n)
    assert set(drawn) == {"m1"}
    loading, private = PRIVATE.loadings[1][:, :2], PRIVATE.loadings[1][:, 2:]
    q: Any = model.infer(params, {"m0": x["m0"]})
    mean = np.asarray(q.components.mean[0]) @ loading.T + PRIVATE.biases[1]
    spread = loading @ np.diag(np.exp(q.components.log_var[0, 0])) @ loading.T + private @ private.T
    draws = np.asarray(drawn["m1"])
    assert np.abs((draws.mean(0) - mean) / np.sqrt(np.diag(spread) / n)).max() < 4.5
    np.testing.assert_allclose(draws.var(0), np.broadcast_to(np.diag(spread), (3, 4)), rtol=0.06)


def test_learned_priors_start_standard_and_average_scale_one():
    model = ORACLE.model("moe", posterior="laplace", prior="learned_scale")
    params = model.init(jax.random.key(10))
    points = jnp.array([[0.0, 0.0], [1.0, -2.0]])
    np.testing.assert_allclose(model.generative_prior(params).log_prob(points), [-np.log(4), -3 - np.log(4)], rtol=1e-6)
    params["prior"] = jnp.array([1.0, -1.0])
    prior: Any = model.expert_prior(params)
    assert isinstance(prior, Laplace)
    scale = np.exp(prior.log_scale)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(model.generative_prior(params)), jax.tree.leaves(prior))
    np.testing.assert_allclose(scale, 2 * np.exp([1, -1]) / np.exp([1, -1]).sum(), rtol=1e-6)


def test_initial_parameters_follow_from_the_key():
    model = toy.model("svae", ("normal", "label"))
    first, again, other = (model.init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert set(first["inference"]) == {"normal", "label", "normal->label", "label->normal"}
    kernels = [params["inference"]["normal"]["head"]["kernel"] for params in (first, other)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    twins = [first["inference"][name]["head"]["kernel"] for name in ("normal", "normal->label")]
    assert np.abs(twins[0] - twins[1]).max() > 0.1


def wrong_decoder(likelihood: str, output: int) -> Model:
    good = Modality("a", (3,), Identity(), nn.Dense(3))
    bad = Modality("b", (2,), Identity(), nn.Dense(output), likelihood)
    return Model((good, bad), 2)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ("normal", r"b: decoder output shape \(5,\) does not fit normal: needs \(2,\)"),
        ("categorical", r"b: decoder output shape \(5,\) does not fit categorical: needs \(2, 'categories'\)"),
    ],
)
def test_a_decoder_that_does_not_fit_names_both_shapes(likelihood, message):
    with pytest.raises(UserError, match=message):
        wrong_decoder(likelihood, 5).init(jax.random.key(0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"m7": np.zeros((4, 3))}, "unknown modality 'm7': the model has m0, m1, m2"),
        ({}, "no modality given"),
        ({"m0": np.zeros((4, 3)), "m1": np.zeros((5, 2))}, "different lengths {'m0': 4, 'm1': 5}"),
        ({"m0": np.zeros((4, 9))}, r"m0: data of shape \(9,\), the modality is declared \(3,\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, message):
    with pytest.raises(UserError, match=message):
        ORACLE.model().batch(data)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(6,), (6, 2), (3,), (1, 3), (5, 3)])
def test_a_presence_mask_of_another_shape_is_refused(shape):
    with pytest.raises(UserError, match=r"presence has shape .*: give one of shape \(6, 3\)"):
        ORACLE.model().batch(DATA.x, jnp.ones(shape, bool))


def test_modalities_left_out_are_missing():
    batch = ORACLE.model().batch({"m2": DATA.x["m2"], "m0": DATA.x["m0"]}, jnp.ones((6, 3), bool).at[1, 0].set(False))
    assert batch.present.tolist() == [[b != 1, False, True] for b in range(6)]
    assert batch.x["m1"].shape == (6, 2)


def test_infer_refuses_unknown_empty_and_absent_subsets():
    model = ORACLE.model()
    params = model.init(jax.random.key(0))
    with pytest.raises(UserError, match="unknown modality 'm9' in subset"):
        model.infer(params, DATA, ["m0", "m9"])
    with pytest.raises(UserError, match="an empty subset"):
        model.infer(params, DATA, [])
    with pytest.raises(UserError, match="subset has m1, which is not in the data: they have m0"):
        model.infer(params, {"m0": DATA.x["m0"]}, "m0+m1")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("latent_dim", [0, 2.0])
def test_a_dimension_is_a_whole_number(latent_dim):
    with pytest.raises(UserError, match=f"latent-dim={latent_dim}: give a whole number above 0"):
        replace(ORACLE.model(), latent_dim=latent_dim)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"params": TrainState({}, None, jnp.zeros(()), jax.random.key(0))},
            "params of type TrainState: give what Model",
        ),
        ({"params": {}}, "params of type dict: give what Model.init makes; of a state that fit returns, state.params"),
        ({"key": 0}, r"key=0: give a PRNG key, such as jax.random.key\(0\)"),
        ({"samples": 0}, "samples=0: give at least 1"),
    ],
)
def test_generate_refuses_what_are_no_parameters_no_key_and_no_sample(arguments, message):
    model = ORACLE.model()
    right = {"params": model.init(jax.random.key(0)), "key": jax.random.key(1)}
    with pytest.raises(UserError, match=message):
        model.generate(**{**right, **arguments})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "call",
    [
        lambda model, state, folder: model.infer(state, DATA),
        lambda model, state, folder: save(folder, model, state),
        lambda model, state, folder: evaluate(model, state, DATA.x, jax.random.key(0), cache_dir=folder),
    ],
    ids=["infer", "save", "evaluate"],
)
def test_a_state_is_no_parameters(call, tmp_path):
    state = TrainState({}, None, jnp.zeros(()), jax.random.key(0))
    with pytest.raises(UserError, match="params of type TrainState: .*state.params"):
        call(ORACLE.model(), state, tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_a_number_is_no_key():
    model = ORACLE.model()
    params = model.init(jax.random.key(0))
    for call in (
        lambda: model.init(0),  # pyright: ignore[reportArgumentType]
        lambda: fit(model, DATA.x, Training(steps=1, batch_size=2), key=0),  # pyright: ignore[reportArgumentType]
        lambda: evaluate(model, params, DATA.x, 0),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(UserError, match=r"key=0: give a PRNG key, such as jax.random.key\(0\)"):
            call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("encoder", [ConvEncoder((4,), hidden=8), nn.Dense("8")], ids=["shape", "mistyped"])  # pyright: ignore[reportArgumentType]
def test_a_network_that_cannot_read_its_modality_is_told_in_one_line(encoder):
    modality = Modality("a", (3,), encoder, MLPDecoder((3,)))
    with pytest.raises(UserError, match=r"a: its encoder does not take arrays of shape \(1, 3\): ...") as caught:
        Model((modality,), 2).init(jax.random.key(0))
    assert "\n" not in str(caught.value)


def test_an_encoder_of_fewer_classes_than_its_decoder_is_refused():
    answers = Modality("answers", (12,), MLPEncoder((8,), categories=3), MLPDecoder((12, 5), (8,)), "categorical")
    with pytest.raises(UserError, match="answers: its encoder knows categories=3 classes, its decoder 5"):
        Model((answers,), 2).init(jax.random.key(0))


def test_unknown_likelihood_is_refused():
    known = ", ".join(LIKELIHOODS)
    with pytest.raises(UserError, match=f"unknown likelihood of m0 'cauchy': choose one of {known}"):
        replace(ORACLE.model().modalities[0], likelihood="cauchy")


def test_private_latents_must_be_given_to_decode():
    model = PRIVATE.model()
    with pytest.raises(ValueError, match="m0 has a private latent"):
        model.decode(model.init(jax.random.key(0)), jnp.zeros((1, 2)))


@pytest.mark.parametrize("fusion", ["poe", "mopoe", "joint_network", "replacement_experts"])
def test_laplace_posteriors_have_no_product(fusion):
    with pytest.raises(UserError, match="laplace"):
        ORACLE.model(fusion, posterior="laplace").init(jax.random.key(0))
    with pytest.raises(UserError, match="prior-expert=all with posterior laplace"):
        ORACLE.model("moe", posterior="laplace", prior_expert="all")


def test_own_likelihood_functions_are_used():
    def wide(mean: jax.Array, scale: float) -> distrax.Distribution:
        return distrax.Normal(mean, 2 * scale)

    model = ORACLE.model("poe")
    own = replace(model, modalities=tuple(replace(m, likelihood=Likelihood(wide)) for m in model.modalities))
    params = ORACLE.params(own)
    z = jnp.zeros((6, 2))
    expected = stats.norm.logpdf(np.asarray(DATA.x["m0"]), ORACLE.biases[0], 2 * ORACLE.noise).sum(-1)
    np.testing.assert_allclose(own.log_likelihoods(params, z, DATA)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [*({"fusion": name} for name in FUSIONS), *({"prior_expert": expert} for expert in get_args(PriorExpert))],
    ids=lambda options: "-".join(options.values()),
)
def test_a_posterior_is_the_same_whether_the_rest_is_missing_or_left_out(options):
    """`infer({a})` is `infer({a, b, c}, [a])`, to the last bit."""
    model = ORACLE.model(**options, joint_width=4)
    params = ORACLE.params(model)
    alone = model.infer(params, {"m1": DATA.x["m1"]})
    jax.tree.map(np.testing.assert_array_equal, alone, model.infer(params, DATA.x, ["m1"]))


@pytest.mark.parametrize("draws", [False, True])
def test_a_given_modality_is_generated_from_its_own_private_posterior(draws):
    """m0 from m0 has the moments of p(m0|m0); draws of p(x|z) add the likelihood's variance."""
    model, n = PRIVATE.model("poe"), 20_000
    params = PRIVATE.params(model, "likelihood")
    x = PRIVATE.sample(jax.random.key(8), 3).x
    given = {"m0": x["m0"]}
    drawn = model.generate(params, jax.random.key(9), given, to="m0", samples=n, draws=draws)
    codes: Any = model.encode(params, model.batch(given))
    q: Any = model.infer(params, given)
    posteriors = [jax.tree.map(lambda leaf: leaf[0], q.components), codes.private["m0"]]
    mean = np.concatenate([p.mean for p in posteriors], -1) @ PRIVATE.loadings[0].T + PRIVATE.biases[0]
    variances = np.exp(np.concatenate([p.log_var for p in posteriors], -1))
    variance = variances @ np.square(PRIVATE.loadings[0]).T + draws * PRIVATE.noise**2
    found = np.asarray(drawn["m0"])
    assert np.abs((found.mean(0) - mean) / np.sqrt(variance / n)).max() < 4.5
    np.testing.assert_allclose(found.var(0), variance, rtol=0.06)


def test_reconstruction_is_generation_of_what_is_given():
    model = PRIVATE.model("mopoe")
    params = PRIVATE.params(model)
    given = {"m0": PRIVATE.sample(jax.random.key(8), 3).x["m0"]}
    found = model.reconstruct(params, jax.random.key(9), given, samples=2)
    assert set(found) == {"m0"}
    np.testing.assert_array_equal(found["m0"], model.generate(params, jax.random.key(9), given, ["m0"], 2)["m0"])


def test_imputation_keeps_what_was_observed_and_predicts_the_rest():
    """Each tuple's missing modality from what that tuple has, whatever stood in its place."""
    model, n = PRIVATE.model("poe"), 20_000
    params = PRIVATE.params(model, "likelihood")
    x = PRIVATE.sample(jax.random.key(8), 3).x
    presence = np.array([[True, True], [True, False], [False, True]])
    broken = {name: jnp.where(presence[:, [i]], x[name], jnp.nan) for i, name in enumerate(PRIVATE.names)}
    found = model.impute(params, jax.random.key(9), broken, presence, samples=n)
    for i, name in enumerate(PRIVATE.names):
        seen = presence[:, i]
        np.testing.assert_array_equal(found[name][:, seen], np.broadcast_to(x[name][seen], (n, 2, PRIVATE.dims[i])))
        (row,), other = np.flatnonzero(~seen), PRIVATE.names[1 - i]
        q: Any = model.infer(params, {other: x[other]})
        shared, private = PRIVATE.loadings[i][:, :2], PRIVATE.loadings[i][:, 2:]
        mean = np.asarray(q.components.mean[0, row]) @ shared.T + PRIVATE.biases[i]
        spread = np.exp(q.components.log_var[0, row]) @ np.square(shared).T + np.square(private).sum(-1)
        draws = np.asarray(found[name][:, row])
        assert np.abs((draws.mean(0) - mean) / np.sqrt(spread / n)).max() < 4.5
        np.testing.assert_allclose(draws.var(0), spread, rtol=0.06)
