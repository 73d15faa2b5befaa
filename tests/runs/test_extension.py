"""From outside the package: an objective, a metric, a prior, a likelihood and a fusion of one's own, run to a report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.evaluation import Context, Metric
from mmvae_jax.fusion import Fusion
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.likelihoods import Likelihood
from mmvae_jax.objectives import OBJECTIVES, Objective
from mmvae_jax.priors import GaussianMixture, PriorRow
from mmvae_jax.registration import register
from mmvae_jax.runs import compare, main
from tests.runs.own_experiment import EXPERIMENT, modalities


class TwoHumps(NamedTuple):
    """Half of the mass on either side of 0: no KL to it has a closed form."""

    mixture: GaussianMixture

    def sample(self, key, shape=()):
        return self.mixture.sample(key, shape)

    def log_prob(self, z):
        return self.mixture.log_prob(z)

    def kl_from(self, q):
        raise NotImplementedError


def two_humps(offset, dim, family):
    mean = jnp.stack([jnp.full(dim, offset), jnp.full(dim, -offset)])
    return TwoHumps(GaussianMixture(jnp.log(jnp.array([0.5, 0.5])), Gaussian(mean, jnp.zeros((2, dim)))))


def width_of_samples(context: Context):
    decoded = context.model.point_estimates(context.params, context.model.draw_prior(context.params, context.key, 30))
    return {name: np.asarray(x).std(-1) for name, x in decoded.items()}


def gentle_elbo(model, params, key, batch, beta, options):
    """The ELBO with half of beta."""
    return OBJECTIVES["elbo"].loss(model, params, key, batch, beta / 2, options)


ROWS = {
    "leave_one_out": Fusion("products of all experts but one", "products", lambda m, _: ~np.eye(m, dtype=bool)),
    "gentle": Objective(gentle_elbo, "ELBO with half of beta", ("kl",)),
    "two_humps": PriorRow("two Gaussians", lambda *_: jnp.ones(()), two_humps, closed=False),
    "logistic": Likelihood(distrax.Logistic, scaled=True),
    "width": Metric(width_of_samples, "Width of samples", "own units", higher_is_better=False),
}  # fmt: skip
FLAGS = ["--fusion=leave_one_out", "--objective=gentle", "--prior=two_humps"]
OWN = replace(
    EXPERIMENT,
    modalities=lambda config, dataset: tuple(replace(m, likelihood="logistic") for m in modalities(config, dataset)),
)


@pytest.fixture(autouse=True)
def registered(registries: None) -> None:
    for name, row in ROWS.items():
        register(name, row)


def test_rows_of_ones_own_run_to_a_report_and_into_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "run"
    assert main(OWN, [*FLAGS, "--kl=sample", f"--out={out}", f"--cache={tmp_path / 'cache'}"]) == 0
    config, metrics = (json.loads((out / name).read_text()) for name in ("config.json", "metrics.json"))
    assert config["architecture"]["fusion"] == "leave_one_out" and config["training"]["objective"] == "gentle"
    assert {"width/a", "width/b", "standard_error/width/a"} <= metrics.keys()
    assert metrics["width/a"] > 0 and all(np.isfinite(value) for value in metrics.values())
    assert "Width of samples" in (out / "report.html").read_text()
    capsys.readouterr()
    picture = tmp_path / "comparison.png"
    assert compare.main([str(out), f"--out={picture}", "--metrics", "width/a"]) == 0
    assert f"{metrics['width/a']:.3f}" in capsys.readouterr().out and picture.is_file()


def test_the_row_says_what_a_prior_without_a_closed_kl_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(OWN, [*FLAGS, f"--out={tmp_path / 'run'}", f"--cache={tmp_path / 'cache'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("no KL has a closed form: use kl=sample")
    assert not (tmp_path / "run").exists()


def test_help_lists_them(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(OWN, ["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(name in text for name in ("leave_one_out", "gentle", "two_humps"))


def test_a_learned_prior_moves(tmp_path: Path):
    """Its parameters are trained: kl=sample has a gradient in them."""
    model = replace(EXPERIMENT.presets["quick"].architecture, prior="two_humps", fusion="poe")
    config = EXPERIMENT.presets["quick"]
    dataset = OWN.load(config)
    model = replace(model, modalities=OWN.modalities(config, dataset))
    params = model.init(jax.random.key(0))
    z = jnp.full((1, 2), 3.0)
    gradient = jax.grad(lambda p: model.generative_prior(p).log_prob(z).sum())(params)
    assert float(gradient["prior"]) > 0
