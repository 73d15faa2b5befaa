"""PolyMNIST weights of PyTorch in our networks: the released MoPoE code (thomassutter/MoPoE) and MultiVae.

A state dict is a mapping from PyTorch's names to arrays. Both projects use one encoder and one decoder,

    shared_encoder.{0,2,4} (convolutions), shared_encoder.7 (dense), class_mu, class_logvar (style_mu, style_logvar)
    decoder.0 (dense), decoder.{3,5,7} (transposed convolutions)

which are `ConvEncoder` and `ConvDecoder` here. Images become NHWC, the two or four heads one, and the private latent,
which the released decoder reads first, comes last.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from mmvae_jax.errors import UserError, one_line
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.networks.conv import ConvEncoder
from mmvae_jax.unpacking import check_archive, read_arrays

StateDict = Mapping[str, np.ndarray]
Tree = dict[str, Any]
Shape = tuple[int, ...]

_WHOLE_MODEL_FILES = ("model.pt", "mm_vae", "model.npz")
_HEADS = ("class_mu", "class_logvar", "style_mu", "style_logvar")


class _Layer(NamedTuple):
    """A layer's name here and there; `kernel = weight.transpose(axes)`."""

    ours: str
    theirs: str
    axes: Shape


_CONV, _CONV_TRANSPOSE, _DENSE = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0)


class ReleasedClassifier(nn.Module):
    """The released digit classifier of a PolyMNIST modality (`pretrained_img_to_digit_clf_m0`), in inference mode."""

    @nn.compact
    def __call__(self, x: Float[Array, "B 28 28 3"], train: bool = False) -> Float[Array, "B 10"]:
        """Logits; `train` plays no part."""
        return nn.Dense(10)(ConvEncoder((10, 20), kernel=4, hidden=128)(x))


def load_state_dict(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, or of a file that `torch.save` wrote (MultiVae's `model.pt` included).

    PyTorch's files are read by `torch.load(weights_only=True)`, which runs no code from the file.

    Raises:
      UserError: no such file, not such a file, a decompression bomb, or PyTorch is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: give a .npz file or one that torch.save wrote")
    read = read_arrays if path.suffix == ".npz" else _torch_reader(path)
    try:
        return read(path)
    except UserError:
        raise
    except Exception as error:  # both readers raise whatever a damaged file leads them to
        raise UserError(f"checkpoint {path} is no state dict of arrays ({one_line(error)}): export it again") from error


def _torch_reader(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"reading {path} needs PyTorch: pip install torch") from None

    def read(path: Path) -> dict[str, np.ndarray]:
        check_archive(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in loaded.get("model_state_dict", loaded).items()}

    return read


def load_checkpoint(path: Path | str) -> dict[str, np.ndarray]:
    """A whole model's state dict, its names beginning with `encoders.<modality>.` and `decoders.<modality>.`.

    Args:
      path: its file, or a folder that holds `model.pt` (MultiVae), `mm_vae` (an epoch of the released code),
        `model.npz`, or the released code's files `enc_<modality>` and `dec_<modality>`.

    Raises:
      UserError: there is nothing of the kind.
    """
    path = Path(path)
    if not path.is_dir():
        return load_state_dict(path)
    for name in _WHOLE_MODEL_FILES:
        if (path / name).is_file():
            return load_state_dict(path / name)
    state = {}
    for file in sorted([*path.glob("enc_*"), *path.glob("dec_*")]):
        kind, _, modality = file.stem.partition("_")
        state |= {f"{kind}oders.{modality}.{name}": array for name, array in load_state_dict(file).items()}
    if not state:
        raise UserError(f"no checkpoint in {path}: it needs {', '.join(_WHOLE_MODEL_FILES)} or enc_m0, dec_m0, ...")
    return state


def model_params(model: Model, state: StateDict) -> Params:
    """A whole model's parameters, laid out as by `Model.init`.

    Args:
      model: with the checkpoint's `ConvEncoder` and `ConvDecoder`, and one network a modality (poe, moe, mopoe).
      state: as of `load_checkpoint`.

    Raises:
      UserError: a missing or unexpected name, a shape that does not fit, or a model with other networks.
    """
    template = _template(model)
    extra = {*template, *template["inference"]} - {"inference", "decoders", *model.names}
    if extra:
        raise UserError(f"a PyTorch checkpoint has no {min(extra)}: use fusion poe, moe or mopoe with a fixed prior")
    prefixes = tuple(f"{kind}.{name}." for kind in ("encoders", "decoders") for name in model.names)
    unexpected = [name for name in state if not name.startswith(prefixes)]
    if unexpected:
        raise UserError(f"unexpected {unexpected[0]} in the checkpoint: the model has {', '.join(model.names)}")

    def of(kind: str, name: str) -> StateDict:
        prefix = f"{kind}.{name}."
        return {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}

    return {
        "inference": {name: encoder_params(model, name, of("encoders", name)) for name in model.names},
        "decoders": {name: decoder_params(model, name, of("decoders", name)) for name in model.names},
    }


def encoder_params(model: Model, modality: str, state: StateDict) -> Tree:
    """`params["inference"][modality]` of an encoder's state dict.

    MultiVae's heads have no biases by default: where all are missing they are zero.

    Raises:
      UserError: as of `model_params`.
    """
    template = _flat(_template(model)["inference"][modality])
    layers = [_Layer(f"trunks_0/Conv_{i}", f"shared_encoder.{2 * i}", _CONV) for i in range(3)]
    layers.append(_Layer("trunks_0/Dense_0", "shared_encoder.7", _DENSE))
    dims = [model.latent_dim] * 2 + [_modality(model, modality).private_dim] * 2
    heads = {name: dim for name, dim in zip(_HEADS, dims, strict=True) if dim}
    features = template.pop("head/kernel")[0]
    del template["head/bias"]
    for name, dim in heads.items():
        layers.append(_Layer(name, name, _DENSE))
        template |= {f"{name}/kernel": (features, dim), f"{name}/bias": (dim,)}
    biases = {f"{name}.bias": np.zeros(dim, np.float32) for name, dim in heads.items()}
    if not biases.keys() & state.keys():
        state = {**state, **biases}
    params = _convert(f"encoder of {modality}", layers, template, state)
    channels = template["trunks_0/Conv_2/kernel"][3]
    params["trunks_0/Dense_0/kernel"] = _nchw_to_nhwc(params["trunks_0/Dense_0/kernel"], channels)
    for part in ("kernel", "bias"):
        params[f"head/{part}"] = np.concatenate([params.pop(f"{name}/{part}") for name in heads], -1)
    return _tree(params)


def decoder_params(model: Model, modality: str, state: StateDict) -> Tree:
    """`params["decoders"][modality]` of a decoder's state dict.

    Raises:
      UserError: as of `model_params`.
    """
    template = _flat(_template(model)["decoders"][modality])
    layers = [_Layer(f"ConvTranspose_{i}", f"decoder.{2 * i + 3}", _CONV_TRANSPOSE) for i in range(3)]
    params = _convert(f"decoder of {modality}", [_Layer("Dense_0", "decoder.0", _DENSE), *layers], template, state)
    channels = template["ConvTranspose_0/kernel"][2]
    kernel = np.roll(params["Dense_0/kernel"], -_modality(model, modality).private_dim, axis=0)
    params["Dense_0/kernel"] = _nchw_to_nhwc(kernel.T, channels).T
    params["Dense_0/bias"] = _nchw_to_nhwc(params["Dense_0/bias"], channels)
    return _tree(params)


def classifier_params(state: StateDict) -> Tree:
    """Parameters of `ReleasedClassifier`.

    Raises:
      UserError: as of `model_params`.
    """
    blank = jnp.zeros((1, 28, 28, 3))
    template = _flat(jax.eval_shape(ReleasedClassifier().init, jax.random.key(0), blank)["params"])
    layers = [
        _Layer("ConvEncoder_0/Conv_0", "encoder.0", _CONV),
        _Layer("ConvEncoder_0/Conv_1", "encoder.3", _CONV),
        _Layer("ConvEncoder_0/Dense_0", "encoder.7", _DENSE),
        _Layer("Dense_0", "encoder.10", _DENSE),
    ]
    params = _convert("classifier", layers, template, state)
    params["ConvEncoder_0/Dense_0/kernel"] = _nchw_to_nhwc(params["ConvEncoder_0/Dense_0/kernel"], channels=20)
    return _tree(params)


def _convert(where: str, layers: list[_Layer], template: dict[str, Shape], state: StateDict) -> dict[str, np.ndarray]:
    """Our kernels and biases, still with the rows of flattened maps in PyTorch's order."""
    if {name.rpartition("/")[0] for name in template} != {layer.ours for layer in layers}:
        raise UserError(f"{where}: not the PyTorch code's network: use ConvEncoder (with hidden) and ConvDecoder")
    params, unexpected = {}, set(state)
    for layer in layers:
        kernel_shape = template[f"{layer.ours}/kernel"]
        weight_shape = tuple(kernel_shape[i] for i in np.argsort(layer.axes))
        weight = _array(where, state, f"{layer.theirs}.weight", weight_shape)
        params[f"{layer.ours}/kernel"] = weight.transpose(layer.axes)
        params[f"{layer.ours}/bias"] = _array(where, state, f"{layer.theirs}.bias", template[f"{layer.ours}/bias"])
        unexpected -= {f"{layer.theirs}.weight", f"{layer.theirs}.bias"}
    if unexpected:
        raise UserError(f"{where}: unexpected {min(unexpected)}: the model has no such layer")
    return params


def _array(where: str, state: StateDict, name: str, shape: Shape) -> np.ndarray:
    if name not in state:
        raise UserError(f"{where}: no {name} in the checkpoint: is it of PolyMNIST's network?")
    if state[name].shape != shape:
        raise UserError(f"{where}: {name} has shape {state[name].shape}, the model needs {shape}: change its widths")
    return np.asarray(state[name], np.float32)


def _nchw_to_nhwc(rows: Float[np.ndarray, "CHW *F"], channels: int) -> Float[np.ndarray, "HWC *F"]:
    """The rows of a flattened square map in another order."""
    side = math.isqrt(len(rows) // channels)
    maps = rows.reshape(channels, side, side, *rows.shape[1:])
    return np.moveaxis(maps, 0, 2).reshape(rows.shape)


def _modality(model: Model, name: str) -> Modality:
    return model.modalities[model.names.index(name)]


def _template(model: Model) -> dict[str, Any]:
    return jax.eval_shape(model.init, jax.random.key(0))


def _flat(template: Tree) -> dict[str, Shape]:
    leaves: Any = flatten_dict(template, sep="/")
    return {name: leaf.shape for name, leaf in leaves.items()}


def _tree(params: dict[str, np.ndarray]) -> Tree:
    return jax.tree.map(jnp.asarray, unflatten_dict(params, sep="/"))
