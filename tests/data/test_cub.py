"""CUB captions of a tiny folder in the official layout: what is read, what an epoch draws, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmvae_jax.data.batching import take
from mmvae_jax.data.cub import Reading, cub_captions, nearest, stand_in
from mmvae_jax.data.cub_files import read_birds, read_features

SPECIES = ("007.Tern", "020.Wren", "099.Gull")
COUNT = 9


def said(i):
    """Caption c of image i has c + 1 words; image 4 has two captions, all others three."""
    return [" ".join([f"bird{i}"] * (c + 1)) for c in range(2 if i == 4 else 3)]


@pytest.fixture
def folder(tmp_path):
    """Nine pictures of three species, each of one grey level, two of three for training."""
    root = tmp_path / "data" / "cub"
    lists = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    for i in range(COUNT):
        species = SPECIES[i % 3]
        lists["images"].append(f"{i + 5} {species}/bird_{i}.jpg")
        lists["image_class_labels"].append(f"{i + 5} {int(species[:3])}")
        lists["train_test_split"].append(f"{i + 5} {int(i < 6)}")
        picture = root / "CUB_200_2011" / "images" / species / f"bird_{i}.jpg"
        text = root / "text" / species / f"bird_{i}.txt"
        for path in (picture, text):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 16), (20 * i,) * 3).save(picture, quality=100)
        text.write_text("\n".join([*said(i), "", " . "]) + "\n")
    for name, lines in lists.items():
        (root / "CUB_200_2011" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def tuples(dataset, split, seed=0):
    """Image number, caption's words and label of every tuple of an epoch."""
    part = getattr(dataset, split)
    batch = take(part, jax.random.key(seed), part.size)
    images = np.round(np.asarray(batch.x["image"])[:, 0, 0, 0] / 20).astype(int).tolist()
    words = dataset.captioned.vocabulary
    captions = [" ".join(words[i] for i in row if i) for row in np.asarray(batch.x["caption"])]
    return list(zip(images, captions, np.asarray(batch.label).tolist(), strict=True))


def test_lists_and_captions_are_read_in_their_order(folder):
    birds = read_birds(folder)
    assert [path.stem for path in birds.paths] == [f"bird_{i}" for i in range(COUNT)]
    assert birds.captions == [[text.split() for text in said(i)] for i in range(COUNT)]
    np.testing.assert_array_equal(birds.labels, np.arange(COUNT) % 3)
    np.testing.assert_array_equal(birds.training, np.arange(COUNT) < 6)


@pytest.mark.parametrize("pairings", [1, 2, 3, 4])
def test_an_epoch_draws_captions_of_every_image_until_all_have_come(folder, tmp_path, pairings):
    reading = Reading(size=8, caption_length=8, min_count=1, pairings=pairings)
    dataset = cub_captions(str(folder.parent), reading, cache=tmp_path)
    epochs = [tuples(dataset, "train", seed) for seed in range(24 // pairings)]
    for epoch in epochs:
        assert len(epoch) == dataset.train.size == 6 * pairings
        for i in range(6):
            drawn = [caption for image, caption, label in epoch if image == i and label == i % 3]
            assert len(drawn) == pairings
            times = [drawn.count(caption) for caption in said(i)]
            assert sum(times) == pairings and max(times) - min(times) <= 1
    assert epochs[0] == tuples(dataset, "train", 0) != epochs[1]
    # Over epochs every caption comes, whatever the pairings.
    everything = {pair for epoch in epochs for pair in epoch}
    assert everything == {(i, caption, i % 3) for i in range(6) for caption in said(i)}


def test_test_tuples_have_the_first_caption_and_words_are_those_of_training(folder, tmp_path):
    dataset = cub_captions(str(folder), Reading(size=8, caption_length=8, min_count=6), cache=tmp_path)
    assert sorted(tuples(dataset, "test")) == [(i, "<unknown>", i % 3) for i in range(6, 9)]
    # Image 4 has three words in all, every other one six.
    assert set(dataset.captioned.vocabulary[2:]) == {f"bird{i}" for i in range(6)} - {"bird4"}
    assert dataset.name == "cub_image_captions" and dataset.num_classes == 3
    assert dataset.provenance["captions"] == "26, at most 8 words of 7"
    assert dataset.train.arrays.captions.shape == (6, 3, 8)


def test_supervision_leaves_one_modality_of_an_image_with_all_its_captions(folder, tmp_path):
    dataset = cub_captions(str(folder), Reading(size=8, pairings=3), supervision=1 / 3, cache=tmp_path)
    plan = dataset.train.plan(dataset.train.arrays, jax.random.key(1))
    presence = np.asarray(dataset.train.presence)[np.asarray(plan["index"])]
    of_image = {i: {tuple(row) for row in presence[np.asarray(plan["image"]) == i].tolist()} for i in range(6)}
    assert all(len(kept) == 1 for kept in of_image.values())
    kinds = [next(iter(kept)) for kept in of_image.values()]
    assert [kinds.count(kind) for kind in ((True, True), (True, False), (False, True))] == [2, 2, 2]


def test_features_take_the_pictures_place_and_lead_back_to_the_nearest_photograph(folder, tmp_path):
    features = np.random.default_rng(0).normal(size=(COUNT, 5))
    path = tmp_path / "features.npz"
    np.savez(path, features)
    dataset = cub_captions(str(folder), Reading(size=8, image_features=str(path)), cache=tmp_path)
    assert dataset.modalities == ("features", "caption") and dataset.name == "cub_features_captions"
    np.testing.assert_array_equal(dataset.train.arrays.images, features[:6].astype(np.float32))
    batch = take(dataset.test, jax.random.key(0), 3)
    shown = dataset.captioned.look_up(np.asarray(batch.x["features"]) + 0.01)
    rows = [6 + np.abs(features[6:] - row).sum(1).argmin() for row in np.asarray(batch.x["features"])]
    np.testing.assert_array_equal(np.round(shown[:, 0, 0, 0] / 20), rows)


def test_features_of_a_network_are_of_large_photographs(folder, tmp_path, error_of):
    asked = []

    def extract(weights, photographs):
        asked.append((weights, photographs.shape))
        return photographs.mean((1, 2))

    reading = Reading(size=8, image_network="weights.pth")
    dataset = cub_captions(str(folder), reading, cache=tmp_path, featurize=extract)
    assert asked == [("weights.pth", (COUNT, 299, 299, 3))]
    assert dataset.modalities == ("features", "caption") and dataset.provenance["pictures"] == "weights.pth"
    np.testing.assert_allclose(dataset.train.arrays.images[:, 0], 20 * np.arange(6), atol=2)
    shown = dataset.captioned.look_up(dataset.test.arrays[0]["features"])
    assert shown.shape == (3, 8, 8, 3)
    assert "image-network=weights.pth: nothing was given" in error_of(
        cub_captions, str(folder), reading, 1.0, 0, tmp_path
    )
    assert "give one" in error_of(Reading, 64, 32, 3, 1, "a", "b")


def test_nearest_is_by_euclidean_distance():
    photographs = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    rng = np.random.default_rng(1)
    known, asked = rng.normal(size=(4, 3)), rng.normal(size=(50, 3))
    distances = np.sqrt(((asked[:, None] - known) ** 2).sum(-1))
    found = nearest(known, photographs)(asked)
    np.testing.assert_array_equal(found[:, 1, 1, 2], distances.argmin(1))
    assert len(set(distances.argmin(1))) == 4


def test_files_that_the_stand_in_does_not_read_are_refused(error_of):
    for name in ("image_features", "image_network", "word_vectors"):
        message = error_of(cub_captions, "embedded", Reading(size=8, **{name: "some.npy"}))
        assert f"{name.replace('_', '-')}=some.npy: the stand-in reads none" in message


def test_corrupt_photographs_may_be_left_out_with_their_captions(folder, tmp_path, error_of):
    next(folder.rglob("bird_3.jpg")).write_bytes(b"no picture")
    assert "bird_3.jpg cannot be decoded" in error_of(cub_captions, str(folder), Reading(size=8), 1.0, 0, tmp_path)
    reading = Reading(size=8, min_count=1, pairings=3, skip_corrupt=True)
    dataset = cub_captions(str(folder), reading, cache=tmp_path, report=lambda line: None)
    kept = [i for i in range(6) if i != 3]
    assert set(tuples(dataset, "train")) == {(i, caption, i % 3) for i in kept for caption in said(i)}


def damage(folder, name, content):
    path = next(folder.rglob(name))
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bird_2.txt", None, "bird_2.txt cannot be read (No such file or directory): put it there"),
        ("bird_2.jpg", None, "bird_2.jpg is listed in images.txt but absent"),
        ("bird_2.txt", b"caf\xe9", "bird_2.txt is not UTF-8 text (byte 3)"),
        ("bird_2.txt", b"", "bird_2.txt has no caption"),
        ("bird_2.txt", b" .\n\n", "bird_2.txt has no caption"),
        ("images.txt", b"", "images.txt is empty"),
        ("images.txt", b"5\n", "images.txt, line 1: '5' is no image number and a value"),
        ("image_class_labels.txt", b"5 7\n", "image_class_labels.txt lacks image 10 of images.txt"),
        ("image_class_labels.txt", b"".join(b"%d x\n" % (i + 5) for i in range(9)), "has 'x' for image 5, no number"),
        ("train_test_split.txt", b"".join(b"%d 2\n" % (i + 5) for i in range(9)), "has '2' for image 5, no 0 or 1"),
        ("train_test_split.txt", None, "train_test_split.txt cannot be read"),
        ("train_test_split.txt", b"".join(b"%d 1\n" % (i + 5) for i in range(9)), "leaves 9 of 9 for training"),
    ],
)
def test_damaged_folders_are_refused(folder, error_of, name, content, message):
    damage(folder, name, content)
    assert message in error_of(read_birds, folder)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 2)), "has arrays of shapes [(8, 2)]: give one array of 9 rows"),
        (np.zeros(9), "has arrays of shapes [(9,)]"),
        (np.full((9, 2), np.inf), "something else than finite numbers"),
        (np.array([["a"]] * 9), "something else than finite numbers"),
        (np.array([[{}]] * 9), "cannot be read"),
    ],
)
def test_files_that_hold_no_features_are_refused(tmp_path, error_of, array, message):
    np.save(tmp_path / "features.npy", array)
    assert message in error_of(read_features, str(tmp_path / "features.npy"), 9)


def test_other_mistakes(tmp_path, error_of):
    assert "data=tfds: it has no captions of CUB" in error_of(cub_captions, "tfds")
    assert f"no CUB in {tmp_path}" in error_of(cub_captions, str(tmp_path))
    assert error_of(Reading, 0) == "size=0: give at least 1"
    assert error_of(Reading, 64, 0) == "caption-length=0: give at least 1"
    assert "cannot be read" in error_of(read_features, str(tmp_path / "none.npy"), 9)


def test_the_stand_in_is_called_one_and_has_both_scores():
    dataset = stand_in(16, 0.5, 0, (40, 10))
    assert dataset.name == "cub_captions_stand_in" and dataset.provenance["source"].startswith("stand-in for CUB")
    assert dataset.modalities == ("image_stand_in", "caption_stand_in")
    assert np.asarray(dataset.train.presence).all(1).sum() == 20
    batch = take(dataset.test, jax.random.key(0), 10)
    assert bool(jnp.all(dataset.attributes.of(batch.x) >= 0))
    vectors = dataset.captioned.vectors
    assert not vectors[0].any() and np.any(vectors[1:], 1).all()


def test_real_files_have_what_their_lists_say(real_data, tmp_path):
    dataset = cub_captions(real_data, Reading(pairings=10), cache=tmp_path)
    assert (dataset.train.size, dataset.test.size, dataset.num_classes) == (3000, 243, 10)
    assert dataset.train.arrays.captions.shape[1:] == (10, 32) and bool((dataset.train.arrays.counts == 10).all())
