"""Drawn faces: which attributes go together, that every one of them shows, and that a seed says everything."""

import numpy as np
import pytest

from mmvae_jax.data.drawn_faces import ATTRIBUTES, HAIR, draw_attributes, draw_face, drawn_faces
from mmvae_jax.errors import UserError


def columns(present):
    return dict(zip(ATTRIBUTES, present.T, strict=True))


def test_attributes_go_together_as_those_of_faces():
    has = columns(draw_attributes(5000, np.random.default_rng(0)))
    frequency = {name: column.mean() for name, column in has.items()}
    assert all(0.04 < share < 0.6 for share in frequency.values()) and np.std(list(frequency.values())) > 0.1
    colours = sum(has[name].astype(int) for name in HAIR)
    assert colours.max() == 1 and 0.1 < np.mean(colours == 0) < 0.4
    for name in (*HAIR, "Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair", "Wearing_Hat"):
        assert not (has["Bald"] & has[name]).any()
    assert not (has["Straight_Hair"] & has["Wavy_Hair"]).any() and not (has["Bangs"] & has["Receding_Hairline"]).any()
    assert not (has["Mustache"] & ~has["Male"]).any() and has["Heavy_Makeup"][has["Male"]].mean() < 0.05
    opened = has["Mouth_Slightly_Open"]
    assert opened[has["Smiling"]].mean() > opened[~has["Smiling"]].mean() + 0.2


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_shows(name):
    """A face that has it is another one than the same face without it, in more than a few pixels."""
    plain = dict.fromkeys(ATTRIBUTES, False)
    without, with_it = (draw_face(plain | {name: shown}, 64, np.random.default_rng(1))[0] for shown in (False, True))
    changed = np.abs(without.astype(int) - with_it).max(-1) > 25
    assert 18 <= changed.sum() <= 64 * 64 / 3
    # All in the face or the hair around it, none at the picture's edge.
    assert not changed[:3].any() and not changed[:, :3].any() and not changed[:, -3:].any()


def test_a_seed_says_everything_and_splits_are_drawn_apart():
    train, test = drawn_faces(6, 3, 16, 5)
    more, same = drawn_faces(9, 3, 16, 5)
    assert (train.images.shape, test.images.shape, train.present.shape) == ((6, 16, 16, 3), (3, 16, 16, 3), (6, 18))
    np.testing.assert_array_equal(test.images, same.images)
    assert train.names == test.names == ATTRIBUTES and len(more.images) == 9
    assert not (train.images[:3] == test.images).all()
    np.testing.assert_array_equal(train.images, drawn_faces(6, 1, 16, 5)[0].images)
    assert (drawn_faces(6, 3, 16, 6)[0].images != train.images).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 1, 16, 0), "train-faces=0: give at least 1"),
        ((1, 0, 16, 0), "test-faces=0: give at least 1"),
        ((1, 1, 8, 0), "size=8: give at least 16"),
        ((1, 1, 16, -1), "data-seed=-1: give at least 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        drawn_faces(*arguments)
