"""Canonical correlation against scikit-learn's and a closed form, and of generations that are known by hand."""

from dataclasses import replace
from itertools import takewhile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from mmvae_jax.data.batching import Dataset, fixed_split, take
from mmvae_jax.data.captions import Captioned
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import ClassifierSettings, Context, EvaluationSettings, measure
from mmvae_jax.evaluation.correlation import canonical, cross_correlations, fitted_correlator, joint_correlations
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPEncoder

NAMES = ("correlation/conditional", "correlation/joint", "correlation/data")
# Words 2 to 5 have vectors, padding and the unknown word have none.
VECTORS = np.array([[0, 0], [0, 0], [1, 0], [0, 2], [-1, 1], [3, 3]], np.float32)
CAPTIONED = Captioned("features", "caption", ("", "<unknown>", "a", "b", "c", "d"), VECTORS)


def pairs(n, seed=0):
    """Two shared directions, the first of them plainer, in noise."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 2)) * [3, 1]
    mix = np.random.default_rng(1)
    x, y = (shared @ mix.normal(size=(2, d)) + rng.normal(size=(n, d)) @ mix.normal(size=(d, d)) for d in (4, 3))
    return x + 5, y - 2


def test_directions_are_those_of_scikit_learn():
    x, y = pairs(400)
    found = canonical((x, y), directions=3, ridge=0)
    theirs = CCA(n_components=3, max_iter=10_000, tol=1e-12).fit_transform(x, y)
    projected = [(side - mean) @ d for side, mean, d in zip((x, y), found.means, found.directions, strict=True)]
    for k in range(3):
        correlation = np.corrcoef(projected[0][:, k], projected[1][:, k])[0, 1]
        assert correlation == pytest.approx(np.corrcoef(theirs[0][:, k], theirs[1][:, k])[0, 1], abs=1e-6)
        # Projections have variance 1 here, and may be turned over.
        ours, other = projected[0][:, k], theirs[0][:, k]
        np.testing.assert_allclose(np.abs(ours), np.abs(other / other.std()), atol=1e-3)


def test_correlation_is_the_cosine_of_centred_projections():
    fit, new = pairs(300), pairs(20, seed=7)
    found = canonical(fit, directions=2, ridge=0.1)
    for i, value in enumerate(found.correlation(new)):
        x, y = (d.T @ side[i] - (s @ d).mean(0) for side, s, d in zip(new, fit, found.directions, strict=True))
        assert value == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-9)
    x, y = found.means
    assert found.correlation((x[None], y[None])) == 0


def test_one_dimension_with_a_known_correlation():
    """`x = s, y = -s + e`: the canonical direction turns y over, and the cosine is the sign that they share."""
    rng = np.random.default_rng(0)
    s, e = rng.normal(size=(2, 50_000, 1))
    found = canonical((s, -s + e), ridge=0)
    # P(signs agree) = 1 - arccos(rho) / pi with rho = 1 / sqrt 2: the mean of cosines is 2 * 3 / 4 - 1.
    assert found.correlation((s, -s + e)).mean() == pytest.approx(0.5, abs=4 / np.sqrt(50_000))


def test_constants_play_no_part_but_in_the_mean_variance():
    x, y = pairs(200)
    padded = tuple(np.concatenate([side, np.full_like(side, 3)], 1) for side in (x, y))
    ours = canonical((x, y), 2, 0.2).correlation((x, y))
    np.testing.assert_allclose(canonical(padded, 2, 0.4).correlation(padded), ours, atol=1e-9)
    assert not np.allclose(canonical((x, y), 2, 10).correlation((x, y)), ours, atol=1e-2)


class Says(nn.Module):
    """Puts out one thing where the first latent is positive, another one elsewhere."""

    one: tuple[float, ...]
    other: tuple[float, ...]
    classes: int = 0

    def __call__(self, z):
        said = jnp.where(z[..., :1] > 0, jnp.array(self.one), jnp.array(self.other))
        return 10 * jax.nn.one_hot(said.astype(jnp.int32), self.classes) if self.classes else said


MODEL = Model(
    (
        Modality("features", (3,), MLPEncoder(()), Says((1.0, 2.0, 3.0), (0.0, -1.0, 4.0))),
        Modality("caption", (2,), MLPEncoder((), 6), Says((2, 5), (1, 0), 6), "categorical"),
    ),
    latent_dim=1,
)


def tuples(n, seed):
    rng = np.random.default_rng(seed)
    caption = rng.integers(0, 6, (n, 2)).astype(np.int32)
    features = VECTORS[caption].sum(1) @ rng.normal(size=(2, 3)) + rng.normal(size=(n, 3))
    return {"features": features.astype(np.float32), "caption": caption}


@pytest.fixture(scope="module")
def dataset():
    train, test = (fixed_split(tuples(n, n), np.arange(n) % 2) for n in (200, 30))
    return Dataset("described", MODEL.names, train, test, 2, captioned=CAPTIONED)


def mean_vector(caption):
    counted = [word for word in takewhile(bool, caption) if word > 1]  # up to the first padding
    return VECTORS[counted].mean(0) if counted else np.zeros(2)


def expected(found, features, captions):
    """Pair by pair, by the formula."""
    x, y = found.canonical.directions
    means = found.canonical.means
    values = []
    for feature, caption in zip(np.asarray(features), np.asarray(captions), strict=True):
        a, b = (feature - means[0]) @ x, (mean_vector(caption) - means[1]) @ y
        values.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return values


def test_what_is_generated_is_held_against_what_was_given(dataset):
    train, test = (take(split, jax.random.key(0), split.size) for split in (dataset.train, dataset.test))
    found = fitted_correlator(MODEL, CAPTIONED, train, {})
    np.testing.assert_allclose(found.of(test.x), expected(found, test.x["features"], test.x["caption"]), atol=1e-5)
    # Both sides say the same whatever z is.
    always = replace(
        MODEL,
        modalities=tuple(
            replace(m, decoder=replace(m.decoder, other=m.decoder.one, parent=None, name=None))
            for m in MODEL.modalities
        ),
    )
    params = always.init(jax.random.key(0))
    crossed = cross_correlations(found, always, params, jax.random.key(1), test)
    size = len(test.label)
    features, captions = np.tile([1.0, 2.0, 3.0], (size, 1)), np.tile([2, 5], (size, 1))
    assert list(crossed) == ["features->caption", "caption->features"]
    np.testing.assert_allclose(crossed["features->caption"], expected(found, test.x["features"], captions), atol=1e-5)
    np.testing.assert_allclose(crossed["caption->features"], expected(found, features, test.x["caption"]), atol=1e-5)


def test_samples_are_pairs_of_one_latent(dataset):
    train = take(dataset.train, jax.random.key(0), dataset.train.size)
    found = fitted_correlator(MODEL, CAPTIONED, train, {})
    values = joint_correlations(found, MODEL, MODEL.init(jax.random.key(0)), jax.random.key(2), 400)
    one, other = expected(found, [[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]], [[2, 5], [1, 0]])
    # Never one's picture with the other's caption; each for half of the prior.
    nearest = np.abs(values[:, None] - [one, other])
    assert len(values) == 400 and nearest.min(1).max() < 1e-5 and abs(one - other) > 1e-2
    assert abs((nearest.argmin(1) == 0).mean() - 0.5) < 4.5 * 0.5 / np.sqrt(400)


def test_rows_are_of_data_sets_with_captions_alone(dataset, tmp_path):
    settings = EvaluationSettings(joint_samples=10, classifier=ClassifierSettings(steps=1))
    context = Context(
        MODEL, MODEL.init(jax.random.key(0)), dataset, jax.random.key(0), settings, tmp_path, lambda line: None
    )
    metrics = measure(context, NAMES)
    assert {name for name in metrics if not name.startswith("standard_error/")} == {
        "correlation/conditional/features->caption",
        "correlation/conditional/caption->features",
        "correlation/joint",
        "correlation/data",
    }
    data = context.correlator.of(context.judged.x)
    assert metrics["correlation/data"] == pytest.approx(data.mean())
    assert metrics["standard_error/correlation/data"] == pytest.approx(data.std(ddof=1) / np.sqrt(30))
    with pytest.raises(UserError, match="has nothing to be measured by it"):
        measure(replace(context, dataset=replace(dataset, captioned=None)), NAMES)
