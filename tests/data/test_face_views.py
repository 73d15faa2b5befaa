"""The views of a face are what they say, the same photograph held once; tasks compare the pixels that they should."""

import jax
import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import canny

from mmvae_jax.data.batching import take
from mmvae_jax.data.face_views import draw_mask, face_views, visible, watermark, with_views
from mmvae_jax.data.faces import LoadedFaces, load_faces
from mmvae_jax.evaluation.tasks import task_errors
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder

SIZE = 32


@pytest.fixture(scope="module")
def faces():
    return load_faces("embedded", SIZE, 6, 5, 0, "", prepare=with_views)


@pytest.fixture(scope="module")
def dataset(faces):
    return face_views(faces)


def test_every_view_is_of_the_same_photograph(faces, dataset):
    batch = take(dataset.test, jax.random.key(0), 5)
    photographs = faces.test.images[..., :3]
    order = [np.flatnonzero([np.array_equal(each, photo) for photo in photographs])[0] for each in batch.x["colour"]]
    assert sorted(order) == list(range(5))
    photographs = photographs[order]
    grey = [rgb2gray(each) for each in photographs]
    np.testing.assert_allclose(batch.x["grey"][..., 0] / 255, grey, atol=0.5 / 255)
    np.testing.assert_array_equal(batch.x["edges"][..., 0] == 255, [canny(each, sigma=0.75) for each in grey])
    masks = [draw_mask(each, SIZE) for each in np.asarray(faces.test.landmarks)[order]]
    np.testing.assert_array_equal(batch.x["mask"], masks)
    upper, lower = np.split(np.asarray(batch.x["obscured"]), 2, axis=1)
    np.testing.assert_array_equal(upper, photographs[:, : SIZE // 2])
    assert not lower.any()
    covered = watermark(SIZE)
    expected = photographs * (1 - covered) + 255 * covered
    np.testing.assert_allclose(batch.x["watermarked"], expected, atol=0.51)
    assert 0.03 < np.mean(covered > 0.3) < 0.4


def test_a_mask_is_white_at_the_landmarks_and_black_between():
    landmarks = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.55), (0.35, 0.8), (0.65, 0.8)])
    mask = draw_mask(landmarks, 64)[..., 0]
    columns, rows = (64 * landmarks).astype(int).T
    assert (mask[rows, columns] == 255).all() and mask[51, 32] == 255
    assert mask[25, 32] == mask[44, 32] == mask[0, 0] == 0


def test_without_landmarks_there_is_no_mask(faces):
    halves = (each._replace(landmarks=None) for each in (faces.train, faces.test))
    dataset = face_views(LoadedFaces(faces.name, *halves, faces.source))
    assert dataset.modalities == ("colour", "grey", "edges", "obscured", "watermarked")
    assert (
        len(dataset.tasks) == 4
        and "mask of stand-ins" not in dataset.tasks
        and "no mask" in dataset.provenance["modalities"]
    )


def test_guesses_are_what_costs_nothing(faces, dataset):
    train = faces.train.images / 255
    x = {name: np.asarray(values) / 255 for name, values in take(dataset.test, jax.random.key(0), 5).x.items()}
    guesses = {name: np.asarray(task.guess(x[task.given])) for name, task in dataset.tasks.items()}
    np.testing.assert_allclose(guesses["colourisation of stand-ins"], np.repeat(x["grey"], 3, -1), rtol=1e-6)
    np.testing.assert_allclose(guesses["edge detection of stand-ins"][2], train[..., 4:].mean(0), atol=1e-6)
    np.testing.assert_allclose(guesses["inpainting of stand-ins"][2], train[..., :3].mean(0), atol=1e-6)
    np.testing.assert_allclose(guesses["watermark removal of stand-ins"], x["watermarked"], rtol=1e-6)
    assert np.ptp(guesses["mask of stand-ins"], axis=0).max() == 0


def test_errors_are_of_the_pixels_that_count(dataset):
    """Of a decoder that draws the same grey everywhere, and of the guess."""
    shapes = {name: tuple(values.shape[1:]) for name, values in take(dataset.test, jax.random.key(0), 1).x.items()}
    modalities = tuple(
        Modality(name, shape, MLPEncoder((4,)), MLPDecoder(shape, (4,)), "bernoulli", pixels=True)
        for name, shape in shapes.items()
    )
    model = Model(modalities, latent_dim=2)
    params = jax.tree.map(lambda leaf: 0 * leaf, model.init(jax.random.key(0)))
    batch = take(dataset.test, jax.random.key(1), 5)
    x = {name: np.asarray(values) / 255 for name, values in batch.x.items()}
    for name, task in dataset.tasks.items():
        errors = task_errors(model, params, jax.random.key(2), batch, task)
        truth, guess = x[task.target], np.asarray(task.guess(x[task.given]))
        counted = {"inpainting": ~visible(SIZE), "watermark removal": watermark(SIZE)[..., 0] > 0}.get(
            name.removesuffix(" of stand-ins")
        )
        rows = ... if counted is None else counted.nonzero()
        for found, made in ((errors.model, np.full(truth.shape, 0.5)), (errors.guess, guess)):
            squares = np.stack([((a - b) ** 2)[rows].mean() for a, b in zip(made, truth, strict=True)])
            np.testing.assert_allclose(found, squares, rtol=1e-5)
