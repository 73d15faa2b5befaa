"""Samples of several modalities: what is missing, and what scikit-learn's splitters do with them."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from mmvae_jax import UserError
from mmvae_jax.rows import Rows


def test_what_is_missing_is_said_or_all_nan():
    a = np.array([[1.0, 2.0], [np.nan, np.nan], [np.nan, 3.0], [4.0, 5.0]])
    rows = Rows({"a": a, "b": np.arange(4)}, np.array([[1, 0], [1, 1], [1, 1], [0, 1]], bool))
    assert rows.shape == (4, 2)
    np.testing.assert_array_equal(rows.present["a"], [True, False, True, False])
    np.testing.assert_array_equal(rows.present["b"], [False, True, True, True])


def test_a_further_mask_only_takes_away():
    rows = Rows({"a": np.arange(3.0), "b": np.arange(3.0)}, np.array([[1, 0], [1, 1], [0, 1]], bool))
    fewer = rows.only(np.array([[1, 1], [0, 1], [1, 1]], bool))
    np.testing.assert_array_equal(fewer.present["a"], [True, False, False])
    np.testing.assert_array_equal(fewer.present["b"], [False, True, True])


def test_scikit_learn_splits_them():
    rows = Rows(
        {"a": np.arange(12.0).reshape(6, 2), "picture": np.arange(24).reshape(6, 2, 2, 1)}, np.eye(6, 2, dtype=bool)
    )
    train, test, order, _ = train_test_split(rows, np.arange(6), test_size=2, random_state=0)
    assert train.shape == (4, 2) and len(test) == 2
    for name, x in rows.data.items():
        np.testing.assert_array_equal(train.data[name], x[order])
        np.testing.assert_array_equal(train.present[name], rows.present[name][order])


def test_frames_are_brought_to_the_union_of_their_indexes():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]}, index=["anna", "bert"])
    rows = Rows({"frame": frame, "label": pandas.Series([2, 1], index=["cleo", "bert"])})
    np.testing.assert_array_equal(rows.present["frame"], [True, True, False])
    np.testing.assert_array_equal(rows.present["label"], [False, True, True])
    np.testing.assert_array_equal(rows.data["frame"][:2], frame)
    np.testing.assert_array_equal(rows.data["label"][1:], [1, 2])
    assert rows.data["label"].dtype.kind == "i"
    with pytest.raises(UserError, match="label is no frame, but frame is: give all with an index"):
        Rows({"frame": frame, "label": np.arange(2)})
    with pytest.raises(UserError, match="frame: its index has duplicates"):
        Rows({"frame": pandas.concat([frame, frame])})


@pytest.mark.parametrize(
    ("data", "presence", "message"),
    [
        ({}, None, "no modality given"),
        ({"a": np.zeros(2), "b": np.zeros((3, 1))}, None, r"different lengths \{'a': 2, 'b': 3\}"),
        ({"a": np.zeros(2)}, np.ones((2, 2), bool), r"presence has shape \(2, 2\): give one of shape \(2, 1\)"),
        ({"a": np.zeros(2)}, np.ones((2, 1)), "presence of type float64: give booleans"),
    ],
)
def test_mistakes_are_told(data, presence, message):
    with pytest.raises(UserError, match=message):
        Rows(data, presence)
