"""Parameters of auxiliary networks on disk: found by a fingerprint of what they depend on, never trusted blindly."""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mmvae_jax.errors import one_line
from mmvae_jax.unpacking import read_arrays

Report = Callable[[str], None]


def cache_path(folder: Path | str, name: str, identity: Mapping[str, Any]) -> Path:
    """The file of parameters that depend on `identity`, plain values."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(folder) / f"{name}-{digest[:16]}.npz"


def load_parameters(path: Path, expected: Any, report: Report) -> Any:
    """Parameters from the cache; None where there are none, or they are damaged, which is reported.

    Args:
      path: from `cache_path`.
      expected: a pytree of the same structure and shapes.
      report: gets a line if the file cannot be used.
    """
    try:
        found = read_arrays(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a damaged archive raises whatever its damage leads to
        report(f"cached {path} is damaged ({one_line(error)}): making it again")
        return None
    shapes = {name: leaf.shape for name, leaf in _flat(expected).items()}
    if {name: leaf.shape for name, leaf in found.items()} != shapes:
        report(f"cached {path} does not fit its network: making it again")
        return None
    if not all(np.issubdtype(leaf.dtype, np.number) and np.isfinite(leaf).all() for leaf in found.values()):
        report(f"cached {path} holds what is not finite: making it again")
        return None
    return unflatten_dict({name: jnp.asarray(leaf) for name, leaf in found.items()}, sep="/")


def save_parameters(path: Path, params: Any, report: Report) -> None:
    """Write parameters; where that is impossible it is reported, because what was trained can still be used.

    They are written under another name first, so that an interrupted run leaves no half file.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # other hosts may be writing it too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, **jax.tree.map(np.asarray, _flat(params)))
        unfinished.replace(path)
    except OSError as error:
        report(f"{path} cannot be written ({error.strerror}): it will be made again next time")


def _flat(params: Any) -> dict[str, Any]:
    return flatten_dict(params, sep="/")
