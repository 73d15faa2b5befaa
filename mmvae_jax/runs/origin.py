"""Where a run's numbers come from: `run.json` keeps the commands that trained and evaluated it, and with what."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from etils import epath

from mmvae_jax.errors import UserError, one_line
from mmvae_jax.evaluation.published import Published
from mmvae_jax.runs.folder import write_whole

ORIGIN_FILE = "run.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "distrax", "orbax-checkpoint", "numpy", "scikit-learn", "sacrebleu")


def write_origin(folder: epath.PathLike, stage: str, command: str, **facts: Any) -> None:
    """Notes a stage of a run, its command and versions, in `run.json`, and keeps what it says of other stages.

    Args:
      folder: of the run.
      stage: `trained` or `evaluated`.
      command: as it was typed.
      facts: whatever else is to be noted, as plain values.
    """
    origin: dict[str, Any] = {}
    with suppress(UserError):  # a damaged one is written anew
        origin = read_origin(folder)
    origin |= {stage: {"command": command, "versions": versions()}, **facts}
    write_whole(epath.Path(folder) / ORIGIN_FILE, json.dumps(origin, indent=2) + "\n")


def read_origin(folder: epath.PathLike) -> dict[str, Any]:
    """What `run.json` says; nothing where there is none.

    Raises:
      UserError: when it is damaged.
    """
    path = epath.Path(folder) / ORIGIN_FILE
    try:
        origin = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({one_line(error)}): evaluate the run again with --eval-only") from None
    if not isinstance(origin, dict):
        raise UserError(f"{path} holds no JSON object: evaluate the run again with --eval-only")
    return origin


def plain_published(published: Sequence[Published]) -> list[dict[str, Any]]:
    """Published numbers as plain values, for `run.json`."""
    return [asdict(each) for each in published]


def published_of(origin: dict[str, Any]) -> list[Published]:
    """The published numbers that a `run.json` holds.

    Raises:
      UserError: they are not what `plain_published` makes.
    """
    try:
        return [Published(**each) for each in origin.get("published", ())]
    except TypeError as error:
        raise UserError(
            f"{ORIGIN_FILE}: no published numbers ({one_line(error)}): evaluate the run again with --eval-only"
        ) from None


def versions() -> dict[str, str]:
    """Versions of what produces a run: Python, the libraries, the hardware and, in a checkout, the commit."""
    found = {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}
    # Not that of a repository of the user's, which an installed package may lie in as well.
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        found["commit"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    found["device"] = f"{jax.device_count()} x {jax.devices()[0].device_kind} ({jax.default_backend()})"
    return found | {"processor": f"{os.cpu_count()} x {_processor()}"}


def _processor() -> str:
    """The name of the CPU; Linux has it in a file, where `platform` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
