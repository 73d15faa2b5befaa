"""MultiVae in an environment and a process of its own. Imports no JAX."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

# One resolution for both: torchvision, which MultiVae needs, would otherwise replace this PyTorch by a newer one.
REQUIREMENTS = ("torch==2.13.0", "multivae==1.0.3")
DEFAULT_FOLDER = Path("~/.cache/mmvae_jax/peer")
_SCRIPT = Path(__file__).with_name("peer.py")


def peer_python(folder: Path) -> Path:
    """The interpreter of MultiVae's environment, made if it is not there.

    Raises:
      subprocess.CalledProcessError: pip could not install it.
    """
    folder = folder.expanduser()
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if not done.is_file():
        print(f"installing {', '.join(REQUIREMENTS)} in {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        done.write_text("\n".join(REQUIREMENTS) + "\n")
    return python


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class PeerProcess:
    """A running `peer.py`; a context manager.

    Attributes:
      about: its PyTorch, device and threads.
      notes: what it said of its job.
      peak_mib: the largest resident set it has had.
    """

    def __init__(self, python: Path | str, device: str = "cpu"):
        # -P: this folder's modules must not stand in for the standard library's, as profile.py would.
        command = [str(python), "-P", str(_SCRIPT), device, str(cores())]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.about = self._answer()
        self.notes: dict[str, Any] = {}
        self.peak_mib = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def prepare(self, job: Mapping[str, Any]) -> None:
        """Build what a job needs, see `peer.Peer`."""
        self.notes = self._ask(job)

    def run(self) -> float:
        """Do the job once; its seconds."""
        answer = self._ask({"run": True})
        self.peak_mib = answer["peak_mib"]
        return answer["seconds"]

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(message), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"MultiVae's process ended with code {self._process.wait()}; its error is above")
        return json.loads(line)
