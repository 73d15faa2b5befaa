"""Run benchmarks, print a table, write JSON and plots: `python -m benchmarks.run [names...] [--peer] [--markdown]`."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.catalogue import ENTRIES, chosen
from benchmarks.peer_process import DEFAULT_FOLDER, cores, peer_python
from benchmarks.report import judged, table

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("mmvae-jax", "jax", "jaxlib", "flax", "distrax", "optax", "orbax-checkpoint", "numpy")
_LONGEST = 3600


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Benchmarks, each in a process of its own.",
        epilog="names: " + ", ".join(dict.fromkeys(name.partition("/")[0] for name in ENTRIES)),
    )
    parser.add_argument("names", nargs="*", help="groups or single benchmarks, as train or train/poe; default all")
    parser.add_argument("--peer", action="store_true", help="alternate with MultiVae 1.0.3, installed if need be")
    parser.add_argument("--peer-folder", type=Path, default=DEFAULT_FOLDER, help="MultiVae's environment")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/latest.json"), help="rows are updated")
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each, at least 3 are taken")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds after which a benchmark repeats no more")
    parser.add_argument("--scale", choices=("tiny", "full"), default="full", help="tiny only proves the code")
    parser.add_argument("--data", help="a data folder; default the embedded digits")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and stop")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run; the exit code: 0, 1 where a benchmark failed, 2 for a wrong command line."""
    options = arguments(given)
    try:
        names = chosen(options.names)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{name:24} {ENTRIES[name].about}" for name in names))
        return 0
    peer = peer_python(options.peer_folder) if options.peer else None
    results = _started(options.json)
    failed = False
    for i, name in enumerate(names):
        print(f"[{i + 1}/{len(names)}] {name}", file=sys.stderr, flush=True)
        row = run_worker(name, options, peer)
        failed |= "error" in row
        results["rows"] = [old for old in results["rows"] if old["name"] != name] + [row]
        _write(options.json, results)
    shown = [row for row in results["rows"] if row["name"] in names]
    print(table(shown, options.markdown))
    print(f"wrote {', '.join(str(path) for path in [options.json, *_plots(options.json, results)])}")
    return int(failed)


def run_worker(name: str, options: argparse.Namespace, peer: Path | None) -> dict[str, Any]:
    """A row measured in a process of its own; one with `error` where that failed."""
    about = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "load": os.getloadavg()[0],
    }
    with TemporaryDirectory(prefix="benchmark-") as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, "-m", "benchmarks.worker", name, "--scale", options.scale, "--out", str(out)]
        command += ["--repeats", str(options.repeats), "--budget", str(options.budget)]
        command += ["--data", str(Path(options.data).resolve())] if options.data else []
        command += ["--peer", str(peer)] if peer else []
        try:
            done = subprocess.run(command, cwd=_ROOT, stderr=subprocess.PIPE, text=True, timeout=_LONGEST, check=False)
        except subprocess.TimeoutExpired:
            return {"name": name, **about, "error": f"took more than {_LONGEST} s"}
        if not out.is_file():
            print(done.stderr, file=sys.stderr)
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            return {"name": name, **about, "error": said[0]}
        return judged({**json.loads(out.read_text()), **about}, ENTRIES[name])


def machine() -> dict[str, Any]:
    """What the numbers belong to."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "system": platform.platform(),
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": cores(),
        "memory_gib": round(pages / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """Of Python and the libraries."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str:
    """The commit, with a plus sign where files differ from it."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(_ROOT), *command], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "HEAD") or "unknown") + ("+" if changed else "")


def _started(path: Path) -> dict[str, Any]:
    """The results so far: rows of an earlier run stay until they are measured again."""
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return {"machine": machine(), "versions": versions(), "command": sys.argv[1:], "rows": rows}


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(temporary, path)


def _plots(path: Path, results: dict[str, Any]) -> list[Path]:
    from benchmarks.plots import draw

    return draw(results["rows"], path.parent, path.stem)


if __name__ == "__main__":
    sys.exit(main())
