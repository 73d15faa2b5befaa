"""A saved model is the model, and everything that is not it is refused in one line."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import Modality, Model, UserError, load, save
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.networks.conv import ConvDecoder, ConvDecoder1D, ConvEncoder, ConvEncoder1D
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.networks.recurrent import RecurrentDecoder, RecurrentEncoder
from mmvae_jax.networks.text import TextDecoder, TextEncoder
from mmvae_jax.registration import register


class Narrow(nn.Module):
    """A network of one's own."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(x)


def library_model() -> Model:
    """One modality of every kind of network, with every kind of field away from its default."""
    image = (8, 8, 1)
    modalities = (
        Modality(
            "vector", (3,), MLPEncoder((5,), activation=nn.gelu), MLPDecoder((3,), (5,)), scale=0.5, private_dim=2
        ),
        Modality("image", image, ConvEncoder((4,), hidden=None), ConvDecoder(image, (4,)), "bernoulli", pixels=True),
        Modality("text", (8,), TextEncoder(4, 8), TextDecoder(8, 4, 8), "categorical", symbols=tuple("abcd")),
        Modality("string", (2,), RecurrentEncoder(3, 4), RecurrentDecoder(2, 3, 4, 1), "autoregressive", weight=3.0),
        Modality(
            "signal",
            (8, 2),
            ConvEncoder1D((4,), hidden=None),
            ConvDecoder1D((8, 2, 2), (4,)),
            "normal_learned_scale",
            (0.5, 0.1),
            nan_missing=True,
        ),
        Modality("half", (2,), MLPEncoder((4,), dtype=jnp.dtype("bfloat16")), MLPDecoder((2,), ())),
    )
    return Model(modalities, 2, "poe", prior_expert="all", prior="learned_scale")


def own_model(width: int = 3) -> Model:
    return Model((Modality("a", (2,), Narrow(width), MLPDecoder((2,), ())),), 2, "moe")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, model = tmp_path_factory.mktemp("saved") / "model", library_model()
    save(folder, model, model.init(jax.random.key(0)))
    return folder


def test_another_process_loads_the_same_model_and_parameters(saved: Path):
    model, params = load(saved)
    assert model == library_model()
    expected = library_model().init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    program = f"import mmvae_jax; model, params = mmvae_jax.load({str(saved)!r}); print(model.names, len(params))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "('vector', 'image', 'text', 'string', 'signal', 'half') 3\n"


def test_networks_of_ones_own_are_given_and_compared(tmp_path: Path):
    params = own_model().init(jax.random.key(1))
    save(tmp_path, own_model(), params)
    with pytest.raises(UserError, match="Narrow is not the library's: make the model with your code"):
        load(tmp_path)
    model, found = load(tmp_path, own_model())
    assert model == own_model()
    jax.tree.map(np.testing.assert_array_equal, found, params)
    with pytest.raises(UserError, match=r"another one: model.modalities\[0\].encoder.width is 3 .* saved, 4 here"):
        load(tmp_path, own_model(4))


@pytest.mark.usefixtures("unchecked")
def test_scales_may_be_numpys_numbers(tmp_path: Path):
    scale = tuple(np.array([0.1, 2.0], np.float32))
    modality = Modality("a", (2,), MLPEncoder(()), MLPDecoder((2,), ()), scale=scale)  # pyright: ignore[reportArgumentType]
    model = Model((modality,), 2, "poe")
    save(tmp_path, model, model.init(jax.random.key(0)))
    assert load(tmp_path)[0] == model


def test_fields_newer_than_the_file_have_their_defaults(tmp_path: Path):
    save(tmp_path, own_model(), own_model().init(jax.random.key(0)))
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["model"]["modalities"][0].pop("nan_missing") is False
    (tmp_path / "model.json").write_text(json.dumps(record))
    assert load(tmp_path, own_model())[0] == own_model()
    wrong = replace(own_model(), modalities=(replace(own_model().modalities[0], nan_missing=True),))
    with pytest.raises(UserError, match="nan_missing is False where it was saved, True here"):
        load(tmp_path, wrong)


@pytest.mark.usefixtures("registries")
def test_a_fusion_of_ones_own_is_registered_before_load(tmp_path: Path):
    register("own", FUSIONS["moe"])
    modality = Modality("a", (2,), MLPEncoder(()), MLPDecoder((2,), ()))
    model = Model((modality,), 2, "own")
    save(tmp_path, model, model.init(jax.random.key(0)))
    assert load(tmp_path)[0] == model
    del FUSIONS["own"]
    with pytest.raises(UserError, match="unknown fusion 'own': .*; if it is your own, import the file that registers"):
        load(tmp_path)


def test_a_name_of_the_librarys_does_not_make_a_class_the_librarys(tmp_path: Path):
    impostor = type("MLPEncoder", (Narrow,), {"__annotations__": {}})
    model = replace(own_model(), modalities=(replace(own_model().modalities[0], encoder=impostor(3)),))
    save(tmp_path, model, model.init(jax.random.key(0)))
    with pytest.raises(UserError, match="MLPEncoder is not the library's"):
        load(tmp_path)


def test_saving_again_replaces_and_parameters_of_another_model_are_refused(tmp_path: Path):
    save(tmp_path, own_model(), own_model().init(jax.random.key(0)))
    later = own_model(4).init(jax.random.key(1))
    with pytest.raises(
        UserError, match=r"parameters of another model: .*kernel is of shape \(4, 4\), the model\'s of \(3, 4\)"
    ):
        save(tmp_path, own_model(), later)
    save(tmp_path, own_model(4), later)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path, own_model(4))[1], later)


def test_what_is_damaged_or_missing_is_told(saved: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no model in .*: it has no model.json"):
        load(tmp_path)
    content = (saved / "parameters.npz").read_bytes()
    (tmp_path / "model.json").write_bytes((saved / "model.json").read_bytes())
    with pytest.raises(UserError, match="it has no parameters.npz"):
        load(tmp_path)
    (tmp_path / "parameters.npz").write_bytes(content[:-9])
    with pytest.raises(UserError, match=r"parameters.npz is damaged, or not that of model.json"):
        load(tmp_path)
    (tmp_path / "parameters.npz").write_bytes(content)
    record = json.loads((tmp_path / "model.json").read_text())
    for wrong in ("{", "[]", json.dumps({"crc32": record["crc32"]})):
        (tmp_path / "model.json").write_text(wrong)
        with pytest.raises(UserError, match="cannot be read"):
            load(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot save a model to .*file: .*; choose another folder"):
        save(tmp_path / "file", own_model(), own_model().init(jax.random.key(0)))
