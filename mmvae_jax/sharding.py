"""One mesh over all devices of all hosts: batches are split over it, what is trained is replicated or split as well.

Everything random is drawn for the whole batch under one `jit`, so the result does not depend on the number of devices
(beyond the order of floating-point sums).
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError

Tree = TypeVar("Tree", bound=PyTree)
Arguments = ParamSpec("Arguments")

# Both axes share every batch; large parameters are split over the second.
AXES = ("data", "model")
# Smaller arrays stay whole: splitting them saves nothing and costs a collective each.
MIN_SPLIT_ELEMENTS = 2**16


def device_mesh(model_parallel: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All devices of all hosts (and slices), those of a host next to each other, along the axes `data` and `model`.

    Args:
      model_parallel: devices along `model`.
      devices: others than this run's: of machines elsewhere, for which a program is compiled.

    Raises:
      UserError: where that does not divide their number.
    """
    devices = sorted(
        jax.devices() if devices is None else devices,
        key=lambda device: (getattr(device, "slice_index", None) or 0, device.process_index, device.id),
    )
    if len(devices) % model_parallel:
        raise UserError(f"model-parallel={model_parallel} on {len(devices)} devices: give a divisor of their number")
    grid = np.array(devices).reshape(-1, model_parallel)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def platform() -> str:
    """What programs are compiled for, such as `cpu`: by default, or as the mesh that `jax.set_mesh` has named."""
    named = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if named is None else named.platform


def placed(tree: Tree, model_parallel: int = 1) -> Tree:
    """The same values on all devices; nothing to do on one.

    Args:
      tree: arrays, equal on every host; what is on all devices already stays as it is.
      model_parallel: over how many devices large arrays are split, as fully sharded data parallelism does; 1: every
        device holds everything.
    """
    mesh = device_mesh(model_parallel)
    if mesh.size == 1:
        return tree

    def place(leaf: Any) -> jax.Array:
        sharding = NamedSharding(mesh, partition(leaf.shape, model_parallel))
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        return _put(leaf, sharding)

    return jax.tree.map(place, tree)


def whole(tree: Tree) -> Tree:
    """Arrays that one host can use without the others; nothing to do where there is one. All hosts must call it."""
    return tree if jax.process_count() == 1 else jax.tree.map(np.asarray, jax.jit(everywhere)(tree))


def split_over_devices(batch: Tree, axis: int = 0) -> Tree:
    """Under `jit`: arrays split along their first axis, or another, over all devices; nothing to do on one."""
    split = PartitionSpec(*(None,) * axis, AXES)
    return _constrained(batch, lambda leaf: split if leaf.ndim else PartitionSpec())


def everywhere(tree: Tree) -> Tree:
    """Under `jit`: arrays whole on every device; nothing to do on one."""
    return _constrained(tree, lambda leaf: PartitionSpec())


def as_placed(tree: Tree, model_parallel: int) -> Tree:
    """Under `jit`: arrays as `placed` splits them; nothing to do on one device."""
    if model_parallel == 1:
        return everywhere(tree)
    return _constrained(tree, lambda leaf: partition(leaf.shape, model_parallel), model_parallel)


def over_all_devices(model_parallel: int = 1) -> AbstractContextManager:
    """Programs called within are those of all devices, whose shares of a batch `by_shares` tells apart.

    On one device nothing changes, nor where `jax.set_mesh` has named the devices.
    """
    mesh = _mesh(model_parallel)
    return jax.set_mesh(mesh) if isinstance(mesh, Mesh) and mesh.size > 1 else nullcontext()


def of_rows(function: Callable[..., Array], *values: Array) -> Array:
    """A function of [N, D] on [..., B, D], whatever axes come before: samples, experts.

    On several devices the batch comes outermost where the axes are merged, so that it stays split: else every device
    would compute all of it.

    Args:
      function: of rows of every array.
      values: arrays with the same leading axes [..., B], of which the first has one more.
    """
    leading = values[0].shape[:-1]
    batch, outermost = len(leading) - 1, len(leading) > 1 and _mesh().size > 1

    def rows(array: Array) -> Array:
        array = jnp.moveaxis(array, batch, 0) if outermost else array
        return array.reshape(-1, *array.shape[len(leading) :])

    result = function(*map(rows, values))
    leading = (leading[batch], *leading[:batch]) if outermost else leading
    result = result.reshape(*leading, *result.shape[1:])
    return jnp.moveaxis(result, 0, batch) if outermost else result


def by_shares(
    function: Callable[..., Any], split: Sequence[Array], whole: Sequence[Array], summed: Sequence[bool] = (False,)
) -> Any:
    """`function(*split, *whole)`; within `over_all_devices` each device computes the share that it has of a batch.

    For functions that XLA does not know how to divide: it would gather all shares on every device.

    Args:
      function: its results are arrays with the batch last, or sums over it.
      split: arrays with the batch last.
      whole: arrays that every share needs.
      summed: of every result, whether it is a sum.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or split[0].shape[-1] % mesh.size:
        return function(*split, *whole)

    def share(*arrays: Array) -> Any:
        results, form = jax.tree.flatten(function(*arrays))
        added = [jax.lax.psum(each, AXES) if add else each for each, add in zip(results, summed, strict=True)]
        return jax.tree.unflatten(form, added)

    def last(array: Any) -> PartitionSpec:
        return PartitionSpec(*(None,) * (array.ndim - 1), AXES)

    results, form = jax.tree.flatten(jax.eval_shape(function, *split, *whole))
    specs = [PartitionSpec() if add else last(each) for each, add in zip(results, summed, strict=True)]
    return jax.shard_map(
        share,
        in_specs=(*map(last, split), *(PartitionSpec() for _ in whole)),
        out_specs=jax.tree.unflatten(form, specs),
        check_vma=False,
    )(*split, *whole)


def on_all_devices(static: tuple[int, ...]) -> Callable[[Callable[Arguments, Tree]], Callable[Arguments, Tree]]:
    """Compiles a function of batches: each device takes its share of them, and all hosts get the whole result.

    Args:
      static: positions of arguments that are compiled in.
    """

    def decorate(function: Callable[Arguments, Tree]) -> Callable[Arguments, Tree]:
        @functools.partial(jax.jit, static_argnums=static)
        @functools.wraps(function)
        def shared(*arguments: Any) -> Any:
            split = [split_over_devices(each) if isinstance(each, Batch) else each for each in arguments]
            return everywhere(function(*split))  # pyright: ignore[reportCallIssue]

        @functools.wraps(shared)
        def on_all(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> Tree:
            known = [each if i in static else _known_to_all(each) for i, each in enumerate(arguments)]
            with over_all_devices():
                return shared(*known, **keywords)

        return on_all

    return decorate


def _known_to_all(tree: Tree) -> Tree:
    """Arrays of one device put on all, whole: else XLA may choose to split them as JAX cannot say."""
    mesh = device_mesh()
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def known(leaf: Any) -> jax.Array:
        spread = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) == mesh.size
        return leaf if spread else _put(leaf, sharding)

    return jax.tree.map(known, tree)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """An array equal on every host, on all devices."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def check_batch_size(batch_size: int, accumulate: int = 1) -> None:
    """Every device must get the same share of a batch.

    Raises:
      UserError: otherwise.
    """
    devices = jax.device_count()
    if batch_size % devices:
        what = (
            f"batch-size={batch_size}" if accumulate == 1 else f"batch-size={batch_size} (each of {accumulate} parts)"
        )
        raise UserError(f"{what} on {devices} devices: give a multiple of their number")


def host_rows(batch_size: int) -> Int[np.ndarray, "R"]:
    """The rows of a batch that the devices of this host take, in their order."""
    rows, sharding = np.arange(batch_size), NamedSharding(device_mesh(), PartitionSpec(AXES))
    parts = sharding.addressable_devices_indices_map(rows.shape).values()
    return np.unique(np.concatenate([rows[part] for part in parts]))


def steps_over_devices(batches: Tree) -> Tree:
    """Batches of several steps, [steps, B, ...], of which a host gives its rows, split along B over all devices."""
    if jax.device_count() == 1:
        return jax.device_put(batches)
    sharding = NamedSharding(device_mesh(), PartitionSpec(None, AXES))
    return jax.tree.map(lambda values: jax.make_array_from_process_local_data(sharding, values), batches)


def _mesh(model_parallel: int = 1) -> Mesh | AbstractMesh:
    """All devices, or those that `jax.set_mesh` has named: `over_all_devices`, or machines elsewhere to compile for."""
    named = jax.sharding.get_abstract_mesh()
    return device_mesh(model_parallel) if named.empty else named


def _constrained(tree: Tree, split: Callable[[Any], PartitionSpec], model_parallel: int = 1) -> Tree:
    mesh = _mesh(model_parallel)
    if mesh.size == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, split(leaf))), tree)


def partition(shape: tuple[int, ...], model_parallel: int) -> PartitionSpec:
    """How `placed` splits an array: along the largest axis that can be split, if the array is large.

    Kernels of convolutions stay whole: XLA would send the pieces of their gradients round from device to device.
    """
    able = [axis for axis, size in enumerate(shape) if size % model_parallel == 0]
    if model_parallel == 1 or not able or len(shape) > 2 or np.prod(shape) < MIN_SPLIT_ELEMENTS:
        return PartitionSpec()
    chosen = max(able, key=lambda axis: shape[axis])
    return PartitionSpec(*(AXES[1] if axis == chosen else None for axis in range(len(shape))))
