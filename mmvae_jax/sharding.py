"""Data parallelism: one mesh over all devices of all hosts, parameters replicated, batches split.

Everything random is drawn for the whole batch under one `jit`, so the result does not depend on the number of devices
(beyond the order of floating-point sums).
"""

import os
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from mmvae_jax.errors import UserError

Tree = TypeVar("Tree", bound=PyTree)
# Set by the launchers that jax.distributed recognises, and by JAX's own variable.
_LAUNCHERS = ("JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES", "SLURM_JOB_NUM_NODES", "OMPI_MCA_orte_hnp_uri")


def start_hosts() -> None:
    """Join the other hosts of a pod or cluster, if a launcher has announced any; call it before any computation."""
    if any(os.environ.get(variable) for variable in _LAUNCHERS):
        jax.distributed.initialize()


def device_mesh() -> Mesh:
    """All devices along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(tree: Tree) -> Tree:
    """The same values on every device; nothing to do on one."""
    if jax.device_count() == 1:
        return tree
    return jax.device_put(tree, NamedSharding(device_mesh(), PartitionSpec()))


def split_over_devices(batch: Tree) -> Tree:
    """Under `jit`: a batch split along its first axis over all devices; nothing to do on one."""
    if jax.device_count() == 1:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(device_mesh(), PartitionSpec("data")))


def check_batch_size(batch_size: int) -> None:
    """Every device must get the same share of a batch.

    Raises:
      UserError: otherwise.
    """
    if batch_size % jax.device_count():
        raise UserError(f"batch-size={batch_size} on {jax.device_count()} devices: give a multiple of their number")
