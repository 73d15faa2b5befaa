"""Inception-v3 as FID uses it (Szegedy et al. 2016, Heusel et al. 2017), its weights given by the user.

The file is `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, which the released MoPoE code reads as well:
TensorFlow's network of 2015 under PyTorch's names, which modules here have too. It differs from torchvision's network:
averages over windows leave padding out, the last block pools by maxima, and there are 1,008 classes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, UInt8
from tqdm import tqdm

from mmvae_jax.data.batching import fingerprint
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.parameter_cache import cache_path, load_parameters, save_parameters
from mmvae_jax.evaluation.picture_features import Extractor, sown_features
from mmvae_jax.hosts import first_process, said_by_first
from mmvae_jax.torch_import import StateDict, load_state_dict

FILE = "pt_inception-2015-12-05-6726825d.pth"
SIDE = 299
CLASSES = 1008
WIDTH = 2048
# Pictures of every set at once: each takes some 30 MiB.
AT_ONCE = 8
_EPSILON = 1e-3
# Our parameters' names and PyTorch's, whose convolutions have the axes OIHW.
_PARTS = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "offset": "bn.bias",
    "mean": "bn.running_mean",
    "variance": "bn.running_var",
}
_DENSE = {"kernel": "weight", "bias": "bias"}


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation with fixed statistics, ReLU; stride 1 keeps sizes if padded."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Convolve."""
        kernel = self.param("kernel", nn.initializers.he_normal(), (*self.kernel, x.shape[-1], self.features))
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale, offset = self.param("scale", ones, (self.features,)), self.param("offset", zeros, (self.features,))
        mean, variance = self.param("mean", zeros, (self.features,)), self.param("variance", ones, (self.features,))
        padding = "SAME" if self.padded and self.stride == 1 else "VALID"
        strides, layout = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)
        return nn.relu((x - mean) * scale * jax.lax.rsqrt(variance + _EPSILON) + offset)


def _conv(x: Array, name: str, features: int, height: int = 1, width: int = 1, stride: int = 1) -> Array:
    return ConvNorm(features, (height, width), stride, name=name)(x)


def _average(x: Array) -> Array:
    """Over windows of 3x3, padding left out."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _halved(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


class Mixed5(nn.Module):
    """Windows of 1, 5 and twice 3, and a pool, side by side."""

    pooled: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        """Convolve and pool."""
        five = _conv(_conv(x, "branch5x5_1", 48), "branch5x5_2", 64, 5, 5)
        double = _conv(_conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3, 3)
        double = _conv(double, "branch3x3dbl_3", 96, 3, 3)
        pool = _conv(_average(x), "branch_pool", self.pooled)
        return jnp.concatenate([_conv(x, "branch1x1", 64), five, double, pool], -1)


class Mixed6a(nn.Module):
    """To half the size."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Convolve and pool."""
        double = _conv(_conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3, 3)
        double = _conv(double, "branch3x3dbl_3", 96, 3, 3, stride=2)
        return jnp.concatenate([_conv(x, "branch3x3", 384, 3, 3, stride=2), double, _halved(x)], -1)


class Mixed6(nn.Module):
    """Windows of 7, each as a row and a column."""

    inner: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        """Convolve and pool."""
        seven = _conv(_conv(x, "branch7x7_1", self.inner), "branch7x7_2", self.inner, 1, 7)
        seven = _conv(seven, "branch7x7_3", 192, 7, 1)
        double = _conv(_conv(x, "branch7x7dbl_1", self.inner), "branch7x7dbl_2", self.inner, 7, 1)
        double = _conv(_conv(double, "branch7x7dbl_3", self.inner, 1, 7), "branch7x7dbl_4", self.inner, 7, 1)
        double = _conv(double, "branch7x7dbl_5", 192, 1, 7)
        pool = _conv(_average(x), "branch_pool", 192)
        return jnp.concatenate([_conv(x, "branch1x1", 192), seven, double, pool], -1)


class Mixed7a(nn.Module):
    """To half the size again."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Convolve and pool."""
        three = _conv(_conv(x, "branch3x3_1", 192), "branch3x3_2", 320, 3, 3, stride=2)
        seven = _conv(_conv(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, 1, 7)
        seven = _conv(_conv(seven, "branch7x7x3_3", 192, 7, 1), "branch7x7x3_4", 192, 3, 3, stride=2)
        return jnp.concatenate([three, seven, _halved(x)], -1)


class Mixed7(nn.Module):
    """Windows of 3 that end in a row beside a column."""

    maxima: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        """Convolve and pool."""
        three = _conv(x, "branch3x3_1", 384)
        double = _conv(_conv(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, 3, 3)
        pool = nn.max_pool(x, (3, 3), (1, 1), "SAME") if self.maxima else _average(x)
        branches = [
            _conv(x, "branch1x1", 320),
            _conv(three, "branch3x3_2a", 384, 1, 3),
            _conv(three, "branch3x3_2b", 384, 3, 1),
            _conv(double, "branch3x3dbl_3a", 384, 1, 3),
            _conv(double, "branch3x3dbl_3b", 384, 3, 1),
            _conv(pool, "branch_pool", 192),
        ]
        return jnp.concatenate(branches, -1)


class Inception(nn.Module):
    """The whole network; `features`, the last map's average, are sown."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B N"]:
        """Logits of pictures in 0..1, of one channel or three, scaled to 299x299 without smoothing."""
        x = jnp.broadcast_to(x, (*x.shape[:3], 3))
        x = 2 * jax.image.resize(x, (len(x), SIDE, SIDE, 3), "linear", antialias=False) - 1
        x = ConvNorm(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
        x = ConvNorm(32, (3, 3), padded=False, name="Conv2d_2a_3x3")(x)
        x = _halved(ConvNorm(64, (3, 3), name="Conv2d_2b_3x3")(x))
        x = ConvNorm(80, name="Conv2d_3b_1x1")(x)
        x = _halved(ConvNorm(192, (3, 3), padded=False, name="Conv2d_4a_3x3")(x))
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            x = Mixed5(pooled, name=f"Mixed_5{letter}")(x)
        x = Mixed6a(name="Mixed_6a")(x)
        for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
            x = Mixed6(inner, name=f"Mixed_6{letter}")(x)
        x = Mixed7a(name="Mixed_7a")(x)
        x = Mixed7(False, name="Mixed_7b")(x)
        x = Mixed7(True, name="Mixed_7c")(x).mean((1, 2))
        self.sow("intermediates", "features", x)
        return nn.Dense(CLASSES, name="fc")(x)


def inception(path: Path | str) -> Extractor:
    """Inception-v3 with the weights of a file, which is read without running code from it.

    Args:
      path: of the file that `torch.save` wrote, or a `.npz` file of the same arrays.

    Raises:
      UserError: no such file, or not Inception's weights.
    """
    return Extractor(Inception(), inception_params(load_state_dict(path)))


def inception_features(
    path: Path | str,
    pictures: UInt8[np.ndarray, "N H W 3"],
    cache: Path | str,
    report: Callable[[str], None] = print,
) -> Float[np.ndarray, "N 2048"]:
    """What the network makes of pictures before its last layer; kept for the same pictures and weights.

    Args:
      path: of the weights, as in `inception`.
      pictures: in bytes; of 299x299 pixels they are not scaled.
      cache: folder of what is kept.
      report: gets a line where that is damaged or cannot be written; of several processes, that of the first.

    Raises:
      UserError: no such file, or not Inception's weights.
    """
    extractor, report = inception(path), said_by_first(report)
    identity = {"weights": fingerprint(*map(np.asarray, jax.tree.leaves(extractor.params)))}
    kept = cache_path(cache, "features", {**identity, "pictures": fingerprint(pictures)})
    found = load_parameters(kept, {"features": jax.ShapeDtypeStruct((len(pictures), WIDTH), jnp.float32)}, report)
    if found is None:
        at_once, pieces = AT_ONCE * jax.device_count(), []
        silent = None if first_process() else True
        for start in tqdm(range(0, len(pictures), at_once), desc="features", disable=silent):
            rows = np.arange(start, start + at_once) % len(pictures)
            x = jnp.asarray(pictures[rows][None], jnp.float32) / 255
            pieces.append(np.asarray(sown_features(*extractor, x))[0])
        found = {"features": np.concatenate(pieces)[: len(pictures)]}
        save_parameters(kept, found, report)
    return np.asarray(found["features"])


def inception_params(state: StateDict) -> dict[str, Any]:
    """Parameters of `Inception` of PyTorch's state dict.

    Raises:
      UserError: a name is missing or unexpected, or a shape does not fit.
    """
    blank = jnp.zeros((1, 1, 1, 3))
    template: Any = flatten_dict(jax.eval_shape(Inception().init, jax.random.key(0), blank)["params"])
    params, names = {}, set()
    for path, leaf in template.items():
        name = ".".join((*path[:-1], (_DENSE if path[0] == "fc" else _PARTS)[path[-1]]))
        if name not in state:
            raise UserError(f"no {name} among Inception's weights: give {FILE}")
        array = np.asarray(state[name], np.float32)
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        if array.shape != leaf.shape:
            raise UserError(
                f"{name} of Inception's weights has shape {state[name].shape}, not that of its layer: give {FILE}"
            )
        params[path] = jnp.asarray(array)
        names.add(name)
    extra = {name for name in state if not name.endswith("num_batches_tracked")} - names
    if extra:
        raise UserError(f"unexpected {min(extra)} among Inception's weights: give {FILE}")
    return unflatten_dict(params)
