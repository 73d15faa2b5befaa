"""A trained model in one folder: its description as JSON, its parameters as plain arrays. Nothing is pickled."""

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import singledispatch
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import PyTree

from mmvae_jax import hosts
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.inputs import check_params
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.networks.conv import ConvDecoder, ConvDecoder1D, ConvEncoder, ConvEncoder1D
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.networks.recurrent import RecurrentDecoder, RecurrentEncoder
from mmvae_jax.networks.text import TextDecoder, TextEncoder
from mmvae_jax.sharding import whole
from mmvae_jax.unpacking import check_archive

MODEL_FILE, PARAMETERS_FILE = "model.json", "parameters.npz"
_CONVOLUTIONAL = (ConvEncoder, ConvDecoder, ConvEncoder1D, ConvDecoder1D)
_OTHERS = (MLPEncoder, MLPDecoder, RecurrentEncoder, RecurrentDecoder, TextEncoder, TextDecoder)
# What a description may name and `load` makes anew; everything else only its owner's code can make.
_CLASSES: dict[str, Callable[..., Any]] = {each.__name__: each for each in (Model, Modality, *_CONVOLUTIONAL, *_OTHERS)}


def save(folder: epath.PathLike, model: Model, params: Params) -> None:
    """Writes a model and its parameters into a folder, in place of one that is there.

    On several hosts all call it, and process 0 writes.

    Args:
      folder: is made if it does not exist.
      model: whose networks may be of any class; those that are not the library's are described for `load` to compare.
      params: its parameters.

    Raises:
      UserError: parameters of another model, or a folder that cannot be written to.
    """
    check_params(params)
    arrays = _flat(jax.tree.map(np.asarray, whole(params)))
    _checked(model, arrays)
    hosts.by_first(lambda: _write(epath.Path(folder), model, arrays))


def _write(folder: epath.Path, model: Model, arrays: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    record = {"model": described(model), "crc32": zlib.crc32(content.getvalue())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / PARAMETERS_FILE, content.getvalue())
        _replace(folder / MODEL_FILE, json.dumps(record, indent=1).encode())
    except OSError as error:
        raise UserError(f"cannot save a model to {folder}: {one_line(error)}; choose another folder") from error


def load(folder: epath.PathLike, model: Model | None = None) -> tuple[Model, Params]:
    """The model and the parameters that `save` wrote.

    Args:
      folder: of the model.
      model: the same model as made by your code; needed only where it has classes that are not the library's.

    Raises:
      UserError: no model there, damaged files, a model other than the given one, or one with classes of your own and
        none given.
    """
    folder = epath.Path(folder)
    try:
        record = json.loads((folder / MODEL_FILE).read_text())
        content = (folder / PARAMETERS_FILE).read_bytes()
        saved, checksum = _completed(record["model"]), record["crc32"]
    except FileNotFoundError as error:
        raise UserError(f"no model in {folder}: it has no {epath.Path(error.filename).name}") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"the model in {folder} cannot be read: {one_line(error)}") from error
    if zlib.crc32(content) != checksum:
        raise UserError(f"{folder / PARAMETERS_FILE} is damaged, or not that of {MODEL_FILE} beside it")
    loaded: Model = made(saved) if model is None else model
    if model is not None and (differences := _differences("model", saved, described(model))):
        raise UserError(f"the model in {folder} is another one: {differences[0]}")
    check_archive(folder / PARAMETERS_FILE, content)
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    expected = _checked(loaded, arrays)
    leaves = [jnp.asarray(arrays[name]) for name in _flat(expected)]
    return loaded, jax.tree.unflatten(jax.tree.structure(expected), leaves)


def _replace(path: epath.Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _flat(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their path."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _checked(model: Model, arrays: Mapping[str, np.ndarray]) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes of a model's parameters; a UserError unless these are their names and shapes."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    expected = {name: leaf.shape for name, leaf in _flat(shapes).items()}
    found = {name: values.shape for name, values in arrays.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            has = f"{name} is of shape {found.get(name)}, the model's of {expected.get(name)}"
            raise UserError(f"parameters of another model: {has}")
    return shapes


@singledispatch
def described(value: Any) -> Any:
    """A model, or a part of one, as JSON knows it: here a function, a dtype, or what only its owner's code makes."""
    name = getattr(value, "__name__", type(value).__qualname__)
    if getattr(nn, name, None) is value:
        return {"function": name}
    try:
        return {"dtype": jnp.dtype(value).name}
    except TypeError:
        return {"own": name}


@described.register(type(None))
@described.register(bool)
@described.register(int)
@described.register(float)
@described.register(str)
def _as_it_is(value: Any) -> Any:
    return value


@described.register(np.number)
def _as_python_has_it(value: np.number) -> Any:
    return value.item()


@described.register(tuple)
@described.register(list)
def _in_order(values: Sequence[Any]) -> list[Any]:
    return [described(each) for each in values]


def _fields(kind: Any) -> list[Field]:
    """The fields of a class that its caller fills in; a module's parent and name are Linen's."""
    linens = ("parent", "name") if issubclass(kind, nn.Module) else ()
    return [each for each in fields(kind) if each.init and each.name not in linens]


@described.register(Model)
@described.register(Modality)
@described.register(nn.Module)
def _by_field(value: Any) -> dict[str, Any]:
    kind, own = type(value), [each.name for each in _fields(type(value))]
    head = {"class": kind.__name__} if _CLASSES.get(kind.__name__) is kind else {"own class": kind.__qualname__}
    return head | {name: described(getattr(value, name)) for name in own}


def _completed(saved: Any) -> Any:
    """A description with the defaults of fields that the library's classes did not have when it was written."""
    match saved:
        case list():
            return [_completed(each) for each in saved]
        case {"class": name} if name in _CLASSES:
            own = _fields(_CLASSES[name])
            defaults = {each.name: described(each.default) for each in own if each.default is not MISSING}
            return defaults | {field: _completed(value) for field, value in saved.items()}
    return saved


def made(described: Any) -> Any:
    """What was `described`.

    Raises:
      UserError: it holds a class or a function that is not the library's, or names a row that is not registered.
    """
    match described:
        case list():
            return tuple(made(each) for each in described)
        case {"class": name, **own} if name in _CLASSES:
            parts = {field: made(each) for field, each in own.items()}
            try:
                return _CLASSES[name](**parts)
            except UserError as error:
                raise UserError(f"{error}; if it is your own, import the file that registers it first") from error
        case {"class": name} | {"own class": name} | {"own": name}:
            raise UserError(f"{name} is not the library's: make the model with your code, and give it to load")
        case {"function": name}:
            return getattr(nn, name)
        case {"dtype": name}:
            return jnp.dtype(name)
    return described


def _differences(where: str, ours: Any, theirs: Any) -> list[str]:
    """Where two descriptions differ, saved and given."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        names = [*ours, *(name for name in theirs if name not in ours)]
        return [line for name in names for line in _differences(f"{where}.{name}", ours.get(name), theirs.get(name))]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for i, pair in pairs for line in _differences(f"{where}[{i}]", *pair)]
    return [] if ours == theirs else [f"{where} is {ours} where it was saved, {theirs} here"]
