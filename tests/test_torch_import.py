"""PyTorch weights in our networks: outputs computed by PyTorch, a NumPy transcription of its layers, and bad files."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import subsets
from mmvae_jax.errors import UserError
from mmvae_jax.fusion import get_fusion
from mmvae_jax.gaussian import Gaussian, standard
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.mlp import MLPEncoder
from mmvae_jax.objectives.terms import component_kls
from mmvae_jax.priors import OfFamily
from mmvae_jax.torch_import import (
    ReleasedClassifier,
    classifier_params,
    decoder_params,
    encoder_params,
    load_checkpoint,
    load_state_dict,
    model_params,
)
from tests.released import decoder_weights, encoder_weights, golden, with_biases

NAMES = ("m0", "m1", "m2", "m3", "m4")


def close(actual, expected, tolerance=1e-5):
    """Relative to the largest value: float32 cannot hold the relative error of a pixel that happens to be near zero."""
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def polymnist(latent_dim=8, private_dim=0, names=NAMES, **options: Any):
    encoder, decoder = ConvEncoder(hidden=latent_dim + private_dim), ConvDecoder()
    make = [Modality(name, (28, 28, 3), encoder, decoder, "laplace", 0.75, private_dim=private_dim) for name in names]
    return Model(tuple(make), latent_dim, **options)


def part(numbers, prefix):
    return {name.removeprefix(prefix): array for name, array in numbers.items() if name.startswith(prefix)}


def random_state(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("f") for name, shape in shapes.items()}


def encoder_state(latent_dim=8, private_dim=0):
    return random_state(with_biases(encoder_weights(latent_dim, private_dim)))


def decoder_state(inputs=8):
    return random_state(with_biases(decoder_weights(inputs)), seed=1)


def whole_state(names=NAMES):
    encoders = {f"encoders.{m}.{name}": array for m in names for name, array in encoder_state().items()}
    return encoders | {f"decoders.{m}.{name}": array for m in names for name, array in decoder_state().items()}


def torch_conv(x, state, name, stride, padding):
    """torch.nn.Conv2d on one image [C, H, W], written out."""
    weight, bias = state[f"{name}.weight"].astype(float), state[f"{name}.bias"]
    size, x = weight.shape[2], np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    steps = range(0, x.shape[1] - size + 1, stride)
    rows = [[np.tensordot(weight, x[:, i : i + size, j : j + size], 3) for j in steps] for i in steps]
    return np.moveaxis(np.array(rows), 2, 0) + bias[:, None, None]


def torch_conv_transpose(x, state, name, output_padding):
    """torch.nn.ConvTranspose2d with kernel 3, stride 2 and padding 1 on one image, written out."""
    weight, bias = state[f"{name}.weight"].astype(float), state[f"{name}.bias"]
    side = 2 * x.shape[1] + 2
    out = np.zeros((weight.shape[1], side, side))
    for i, j in np.ndindex(x.shape[1:]):
        out[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.tensordot(x[:, i, j], weight, 1)
    stop = 2 * x.shape[1] + output_padding
    return out[:, 1:stop, 1:stop] + bias[:, None, None]


def torch_dense(x, state, name):
    return state[f"{name}.weight"].astype(float) @ x + state[f"{name}.bias"]


def relu(x):
    return np.maximum(x, 0)


def test_imported_networks_give_pytorchs_outputs():
    numbers = golden()
    model = polymnist()
    encoder, decoder = part(numbers, "torch/encoder/"), part(numbers, "torch/decoder/")
    state = {f"encoders.{m}.{name}": array for m in NAMES for name, array in encoder.items()}
    state |= {f"decoders.{m}.{name}": array for m in NAMES for name, array in decoder.items()}
    params = model_params(model, state)
    fresh = model.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    x = numbers["x_nchw"].transpose(0, 2, 3, 1).astype("f")
    batch, z = model.batch(dict.fromkeys(NAMES, x)), jnp.asarray(numbers["z"], jnp.float32)
    codes = model.encode(params, batch)
    decoded = model.decode(params, z)
    log_likelihoods = model.log_likelihoods(params, z, batch)
    mean, log_var = codes.shared
    for i, name in enumerate(NAMES):
        close(mean[i], numbers["encoder_mean"])
        close(log_var[i], numbers["encoder_log_var"])
        close(decoded[name].mean().transpose(0, 3, 1, 2), numbers["decoder_mean_nchw"])
        close(log_likelihoods[:, i], numbers["laplace_0_75_log_prob"])


def test_subset_posteriors_and_kl_bound_are_multivaes():
    numbers = golden()
    experts = Gaussian(*(jnp.asarray(numbers[f"experts_{part}"], jnp.float32) for part in ("mean", "log_var")))
    present, prior, mopoe = jnp.ones((6, 5), bool), standard(8), get_fusion("mopoe", NAMES)
    masks = subsets.powerset(5)
    assert [subsets.label(mask, NAMES).replace("+", "_") for mask in masks] == list(numbers["subset_names"])
    given = jax.vmap(lambda mask: mopoe.given(experts, present, mask, prior).components)(masks)
    joint = mopoe.joint(experts, present, prior)
    for mean, log_var in (jax.tree.map(lambda leaf: leaf[:, 0], given), joint.components):
        close(mean, numbers["subset_mean"])
        close(log_var, numbers["subset_log_var"])
    close(component_kls(joint, OfFamily(prior)).mean(), numbers["mixture_kl_bound"])


def test_style_heads_become_the_private_latent():
    model = polymnist(latent_dim=5, private_dim=2, names=("m0",))
    encoder, decoder = encoder_state(5, 2), decoder_state(7)
    params = {
        "inference": {"m0": encoder_params(model, "m0", encoder)},
        "decoders": {"m0": decoder_params(model, "m0", decoder)},
    }
    rng = np.random.default_rng(2)
    image, shared, style = rng.uniform(size=(3, 28, 28)), rng.normal(size=5), rng.normal(size=2)
    h = image
    for name in ("shared_encoder.0", "shared_encoder.2", "shared_encoder.4"):
        h = relu(torch_conv(h, encoder, name, stride=2, padding=1))
    h = relu(torch_dense(h.ravel(), encoder, "shared_encoder.7"))
    codes = model.encode(params, model.batch({"m0": image.transpose(1, 2, 0)[None].astype("f")}))
    heads = [*codes.shared, *codes.private["m0"]]
    for found, name in zip(heads, ("class_mu", "class_logvar", "style_mu", "style_logvar"), strict=True):
        close(found.squeeze(), torch_dense(h, encoder, name))

    h = relu(torch_dense(np.concatenate([style, shared]), decoder, "decoder.0")).reshape(128, 4, 4)
    h = relu(torch_conv_transpose(h, decoder, "decoder.3", output_padding=0))
    h = relu(torch_conv_transpose(h, decoder, "decoder.5", output_padding=1))
    h = torch_conv_transpose(h, decoder, "decoder.7", output_padding=1)
    private = {"m0": jnp.asarray(style, jnp.float32)[None]}
    decoded = model.decode(params, jnp.asarray(shared, jnp.float32)[None], private)
    close(decoded["m0"].mean()[0].transpose(2, 0, 1), h)


def test_released_classifier_gives_pytorchs_logits():
    weights = {
        "encoder.0": (10, 3, 4, 4),
        "encoder.3": (20, 10, 4, 4),
        "encoder.7": (128, 980),
        "encoder.10": (10, 128),
    }
    state = random_state(with_biases(weights))
    image = np.random.default_rng(3).uniform(size=(3, 28, 28))
    h = relu(torch_conv(image, state, "encoder.0", stride=2, padding=1))
    h = relu(torch_conv(h, state, "encoder.3", stride=2, padding=1))
    expected = torch_dense(relu(torch_dense(h.ravel(), state, "encoder.7")), state, "encoder.10")
    x = jnp.asarray(image.transpose(1, 2, 0), jnp.float32)[None]
    close(ReleasedClassifier().apply({"params": classifier_params(state)}, x)[0], expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("encoders.m1.class_mu.bias"), ["encoder of m1", "no class_mu.bias"]),
        (lambda s: s.update({"encoders.m0.style_mu.bias": np.zeros(3)}), ["encoder of m0", "unexpected style_mu.bias"]),
        (lambda s: s.update({"prior_mean": np.zeros((1, 8))}), ["unexpected prior_mean", "m0, m1"]),
        (
            lambda s: s.update({"decoders.m1.decoder.5.weight": np.zeros((64, 16, 3, 3))}),
            ["decoder of m1", "decoder.5.weight", "(64, 16, 3, 3)", "(64, 32, 3, 3)"],
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told_in_one_line(change, said):
    state = whole_state(("m0", "m1"))
    change(state)
    with pytest.raises(UserError) as caught:
        model_params(polymnist(names=("m0", "m1")), state)
    assert all(words in str(caught.value) for words in said) and "\n" not in str(caught.value)


def test_heads_without_biases_are_multivaes():
    state = encoder_state()
    bare = {name: array for name, array in state.items() if name not in ("class_mu.bias", "class_logvar.bias")}
    state |= {"class_mu.bias": np.zeros(8), "class_logvar.bias": np.zeros(8)}
    model = polymnist(names=("m0",))
    jax.tree.map(np.testing.assert_array_equal, *(encoder_params(model, "m0", each) for each in (bare, state)))


def test_models_that_a_checkpoint_cannot_fill_are_refused():
    joint, learned = (
        polymnist(names=("m0", "m1"), fusion="joint_network"),
        polymnist(names=("m0",), prior="learned_scale"),
    )
    for model, missing in ((joint, "m0[+]m1"), (learned, "prior")):
        with pytest.raises(UserError, match=f"no {missing}: use fusion"):
            model_params(model, whole_state(model.names))
    other = Model((Modality("m0", (28, 28, 3), MLPEncoder(), ConvDecoder()),), 8)
    with pytest.raises(UserError, match="encoder of m0: not the PyTorch code's network"):
        encoder_params(other, "m0", encoder_state())


class FakeTensor(SimpleNamespace):
    """What a state dict's tensors must offer."""

    def float(self):
        return self

    def numpy(self):
        return self.array


@pytest.fixture
def fake_torch(monkeypatch):
    """PyTorch's loader on files that hold the name of a state dict; code in files is refused."""
    contents = {}

    def load(path, map_location, weights_only):
        assert weights_only and map_location == "cpu"
        return contents[Path(path).read_text()]

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    return contents


def as_tensors(state):
    return {name: FakeTensor(array=array) for name, array in state.items()}


def test_the_files_of_each_project_give_the_same_state(tmp_path, fake_torch):
    state = whole_state(("m0", "m1"))
    fake_torch["multivae"] = {"model_state_dict": as_tensors(state)}
    fake_torch["epoch"] = as_tensors(state)
    for folder, file, content in (("multivae", "model.pt", "multivae"), ("0299", "mm_vae", "epoch")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(content)
    (tmp_path / "released").mkdir()
    for m in ("m0", "m1"):
        for kind, own in (("enc", encoder_state()), ("dec", decoder_state())):
            fake_torch[kind] = as_tensors(own)
            (tmp_path / "released" / f"{kind}_{m}").write_text(kind)
    np.savez(tmp_path / "model.npz", **state)
    for source in ("multivae", "multivae/model.pt", "0299", "released", "model.npz", "."):
        found = load_checkpoint(tmp_path / source)
        assert found.keys() == state.keys()
        assert all(np.array_equal(found[name], state[name]) for name in state)


def test_real_torch_files_load(tmp_path):
    torch = pytest.importorskip("torch")
    state = encoder_state()
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, tmp_path / "enc_m0")
    found = load_state_dict(tmp_path / "enc_m0")
    assert all(np.array_equal(found[name], state[name]) for name in state)


def test_files_that_cannot_be_read_are_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    (tmp_path / "enc_m0").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    monkeypatch.setitem(sys.modules, "torch", None)
    for path, said in (
        ("none.npz", "no checkpoint"),
        ("bad.npz", "is no state dict of arrays"),
        ("enc_m0", "pip install torch"),
    ):
        with pytest.raises(UserError, match=said):
            load_state_dict(tmp_path / path)
    with pytest.raises(UserError, match="no checkpoint in .*empty: it needs model.pt"):
        load_checkpoint(tmp_path / "empty")
