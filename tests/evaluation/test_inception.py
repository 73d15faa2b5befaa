"""Inception-v3 for FID: sizes as published, layers written out, PyTorch's names. The whole network is compared with no other."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import inception as module
from mmvae_jax.evaluation.inception import ConvNorm, Inception, Mixed7, inception, inception_features, inception_params
from mmvae_jax.evaluation.picture_features import Extractor


def shapes():
    blank = jnp.zeros((1, 28, 28, 3))
    return {
        "/".join(path): leaf.shape
        for path, leaf in flatten_dict(jax.eval_shape(Inception().init, jax.random.key(0), blank)["params"]).items()
    }


def torch_state(seed=0):
    """Random weights under PyTorch's names, with what else its file has."""
    rng, state = np.random.default_rng(seed), {}
    for path, shape in shapes().items():
        *layer, part = path.split("/")
        if layer == ["fc"]:
            state["fc.weight" if part == "kernel" else "fc.bias"] = rng.normal(size=shape[::-1]).astype("f")
        elif part == "kernel":
            height, width, inputs, outputs = shape
            values = rng.normal(size=(outputs, inputs, height, width)) * np.sqrt(2 / (inputs * height * width))
            state[".".join((*layer, "conv.weight"))] = values.astype("f")
            state[".".join((*layer, "bn.num_batches_tracked"))] = np.zeros(())
        else:
            name = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}[part]
            state[".".join((*layer, "bn", name))] = rng.uniform(0.5, 1.5, shape).astype("f")
    return state


@pytest.fixture(scope="module")
def state():
    return torch_state()


def test_it_has_the_published_numbers_of_parameters_and_sizes_of_maps():
    """torchvision's 27,161,264 without the auxiliary head's 3,326,696, with 1,008 classes; Szegedy et al. 2016, Table 1."""
    counted = sum(np.prod(shape) for path, shape in shapes().items() if not path.endswith(("mean", "variance")))
    assert counted == 27_161_264 - 3_326_696 + 8 * 2049
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    _, seen = jax.eval_shape(
        lambda x: Inception().init_with_output(jax.random.key(0), x, capture_intermediates=True), x
    )
    maps = {name: each["__call__"][0].shape for name, each in seen["intermediates"].items() if "__call__" in each}
    expected = {
        "Conv2d_1a_3x3": (149, 32),
        "Conv2d_2a_3x3": (147, 32),
        "Conv2d_2b_3x3": (147, 64),
        "Conv2d_3b_1x1": (73, 80),
    }
    expected |= {"Conv2d_4a_3x3": (71, 192), "Mixed_5b": (35, 256), "Mixed_5c": (35, 288), "Mixed_5d": (35, 288)}
    expected |= {f"Mixed_6{letter}": (17, 768) for letter in "abcde"}
    expected |= {"Mixed_7a": (8, 1280), "Mixed_7b": (8, 2048), "Mixed_7c": (8, 2048)}
    assert {name: shape for name, shape in maps.items() if len(shape) == 4} == {
        name: (1, side, side, width) for name, (side, width) in expected.items()
    }
    assert seen["intermediates"]["features"][0].shape == (1, 2048)


def test_weights_come_under_pytorchs_names(state, tmp_path):
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["Mixed_6b.branch7x7dbl_3.conv.weight"].shape == (128, 128, 1, 7)
    np.savez(tmp_path / "inception.npz", **state)
    params = inception(tmp_path / "inception.npz").params
    weight = state["Mixed_6b.branch7x7dbl_3.conv.weight"]
    found = params["Mixed_6b"]["branch7x7dbl_3"]
    np.testing.assert_array_equal(found["kernel"][0, 2, 5, 7], weight[7, 5, 0, 2])
    np.testing.assert_array_equal(found["variance"], state["Mixed_6b.branch7x7dbl_3.bn.running_var"])
    np.testing.assert_array_equal(params["fc"]["kernel"], state["fc.weight"].T)


def test_a_convolution_is_pytorchs_written_out():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, 7, 7, 2)), rng.normal(size=(3, 2, 3, 3))
    scale, offset, mean, variance = rng.uniform(0.5, 1.5, size=(4, 3))
    params = {
        "kernel": weight.transpose(2, 3, 1, 0),
        "scale": scale,
        "offset": offset,
        "mean": mean,
        "variance": variance,
    }
    params = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), params)
    for stride, padded, padding in ((1, True, 1), (1, False, 0), (2, True, 0)):
        found = ConvNorm(3, (3, 3), stride, padded).apply({"params": params}, jnp.asarray(x, jnp.float32))
        wide = np.pad(x[0], ((padding, padding), (padding, padding), (0, 0)))
        size = (len(wide) - 3) // stride + 1
        windows = [[wide[stride * i :, stride * j :][:3, :3] for j in range(size)] for i in range(size)]
        mapped = np.einsum("ijhwc,ochw->ijo", np.array(windows), weight)
        expected = np.maximum((mapped - mean) / np.sqrt(variance + 1e-3) * scale + offset, 0)
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


def test_averages_leave_padding_out_and_the_last_block_takes_maxima():
    """Of ones both pools are one at the border too; of -1 maxima over padding would be 0."""
    x = jnp.ones((1, 4, 4, 8))
    np.testing.assert_allclose(module._average(x), x)
    params = Mixed7(True).init(jax.random.key(0), x)["params"]
    spike = x.at[0, 0, 0].set(5.0)
    pooled = {
        maxima: np.asarray(Mixed7(maxima).apply({"params": params}, spike)[..., -192:]) for maxima in (True, False)
    }
    kernel = np.asarray(params["branch_pool"]["kernel"])[0, 0].sum(0) / np.sqrt(1.001)
    for maxima, at_corner in ((True, 5.0), (False, 2.0)):
        np.testing.assert_allclose(pooled[maxima][0, 0, 0], np.maximum(at_corner * kernel, 0), rtol=1e-4, atol=1e-5)


def test_pictures_of_one_channel_or_three_become_features_between_minus_1_and_1(state, monkeypatch):
    """Interpolated as PyTorch does with align_corners=False: borders are clamped."""
    monkeypatch.setattr(module, "SIDE", 75)
    params, x, seen = inception_params(state), jax.random.uniform(jax.random.key(0), (2, 28, 28, 1)), []
    monkeypatch.setattr(
        module.jax.image,
        "resize",
        lambda x, shape, *args, resize=jax.image.resize, **kw: seen.append(resize(x, shape, *args, **kw)) or seen[-1],
    )
    grey, sown = Inception().apply({"params": params}, x, mutable=("intermediates",))
    colour = Inception().apply({"params": params}, jnp.repeat(x, 3, -1))
    np.testing.assert_allclose(grey, colour, rtol=1e-5)
    features = sown["intermediates"]["features"][0]
    expected = np.asarray(features, np.float64) @ state["fc.weight"].T + state["fc.bias"]
    np.testing.assert_allclose(grey, expected, atol=1e-4 * np.abs(expected).max())
    at = np.clip((np.arange(75) + 0.5) * 28 / 75 - 0.5, 0, 27)
    low, part = np.minimum(np.floor(at).astype(int), 26), at - np.minimum(np.floor(at), 26)
    rows = np.asarray(x[0, ..., 0])
    rows = rows[low] * (1 - part)[:, None] + rows[low + 1] * part[:, None]
    expected = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    np.testing.assert_allclose(seen[0][0, ..., 2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("Mixed_5b.branch1x1.bn.bias"), "no Mixed_5b.branch1x1.bn.bias among"),
        (lambda state: state.update({"AuxLogits.fc.bias": np.zeros(3)}), "unexpected AuxLogits.fc.bias"),
        (
            lambda state: state.update({"fc.bias": np.zeros(1000)}),
            r"fc.bias of Inception's weights has shape \(1000,\)",
        ),
    ],
)
def test_other_weights_are_refused(state, change, message):
    other = dict(state)
    change(other)
    with pytest.raises(UserError, match=message):
        inception_params(other)


def test_features_of_pictures_are_made_once_for_the_same_weights(tmp_path, monkeypatch):
    class Means(nn.Module):
        @nn.compact
        def __call__(self, x):
            gain = self.param("gain", nn.initializers.ones, ())
            self.sow(
                "intermediates",
                "features",
                jnp.tile(gain * x.mean((1, 2)), (1, module.WIDTH // 3 + 1))[:, : module.WIDTH],
            )

    def features(gain, pictures):
        read = []

        def extractor(path):
            read.append(path)
            return Extractor(Means(), {"gain": jnp.float32(gain)})

        with monkeypatch.context() as patched:
            patched.setattr(module, "inception", extractor)
            found = inception_features("weights.pth", pictures, tmp_path)
        assert read == ["weights.pth"]
        return found

    pictures = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), np.uint8)  # no multiple of what is read at once
    found = features(1.0, pictures)
    assert found.shape == (11, module.WIDTH)
    np.testing.assert_allclose(found[:, :3], pictures.mean((1, 2)) / 255, rtol=1e-5)
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(features(1.0, pictures), found)
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_allclose(features(2.0, pictures), 2 * found, rtol=1e-5)
    assert len(list(tmp_path.iterdir())) == 2
