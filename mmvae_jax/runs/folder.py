"""A run's folder, how files get there, and the configuration in it."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import filelock
from etils import epath

from mmvae_jax.errors import UserError, one_line

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.json"
CURVE_FILE = "curve.json"
POWERSET_FILE = "powerset.json"
REPORT_FILE = "report.html"
CHECKPOINTS_FOLDER = "checkpoints"
_LOCK_FILE = ".lock"
_ABSENT = "(absent)"


def absolute(folder: epath.PathLike) -> epath.Path:
    """A folder's absolute path; what lies in a bucket (gs://bucket/run) has one."""
    folder = epath.Path(folder)
    return folder if in_bucket(folder) else folder.resolve()


def in_bucket(folder: epath.PathLike) -> bool:
    """Whether a folder lies in a bucket, where files are written whole or not at all and nothing is locked."""
    return "://" in str(folder)


def prepare_folder(folder: epath.PathLike, flag: str = "--out") -> None:
    """Creates a run's folder, or the one that another flag names, and makes sure that files can be written there.

    Raises:
      UserError: when the folder cannot be made or is not writable.
    """
    folder = epath.Path(folder)
    probe = folder / f".{uuid.uuid4().hex}"
    try:
        str(folder).encode()
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except ImportError as error:
        raise _no_bucket(folder, error, flag) from None
    except UnicodeEncodeError:
        raise UserError(f"cannot write to {str(folder)!a}: its name is no text; choose another {flag}") from None
    except FileExistsError:
        raise UserError(f"cannot write to {folder}: it is a file; choose another {flag}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {folder}: {reason}; choose another {flag}") from None


def _no_bucket(folder: epath.Path, error: ImportError, flag: str) -> UserError:
    what = f"{folder} cannot be reached: {one_line(error)}"
    return UserError(f"{what}; pip install 'etils[epath-gcs]', or choose another {flag}")


@contextmanager
def held(folder: epath.PathLike) -> Iterator[None]:
    """Keeps other runs out of a run's folder; a run that is killed lets go of it. In a bucket nothing is kept out.

    Raises:
      UserError: another run is there.
    """
    if in_bucket(folder):
        yield
        return
    lock = filelock.FileLock(epath.Path(folder) / _LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{folder} is in use by another run: wait for its end, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()


def has_checkpoints(folder: epath.PathLike) -> bool:
    """Whether a run in this folder has saved anything.

    Raises:
      UserError: the folder is in a bucket, and the library that reaches it is not installed.
    """
    try:
        found = (epath.Path(folder) / CHECKPOINTS_FOLDER).glob("*")
        return any(path.name.isdecimal() for path in found)
    except ImportError as error:
        raise _no_bucket(epath.Path(folder), error, "--out") from None


@contextmanager
def writing(what: object, *errors: type[Exception]) -> Iterator[None]:
    """What goes wrong within it, such as a full disk, in one line.

    Args:
      what: is written, and where to.
      errors: that mean so, besides OSError.

    Raises:
      UserError: in place of any of them.
    """
    try:
        yield
    except (OSError, *errors) as error:
        raise UserError(
            f"cannot write {what}: {one_line(error)}; make room there, and the same command goes on, "
            "or choose another --out"
        ) from error


def write_whole(path: epath.PathLike, text: str) -> None:
    """Writes a file under another name first, so that an interrupted run leaves the old one or the new one.

    Raises:
      UserError: when it cannot be written.
    """
    path = epath.Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        # The name of a folder of data may hold bytes that are no text.
        temporary.write_bytes(text.encode(errors="backslashreplace"))
        temporary.replace(path)


def write_config(folder: epath.PathLike, config: Mapping[str, Any]) -> None:
    """Writes `config.json`, whole or not at all; what is not JSON is written as its `str`."""
    write_whole(epath.Path(folder) / CONFIG_FILE, json.dumps(config, indent=2, default=str) + "\n")


def read_config(folder: epath.PathLike) -> dict[str, Any] | None:
    """The configuration that a run's folder was made with; None when it has none.

    Raises:
      UserError: when `config.json` cannot be read.
    """
    return read_object(epath.Path(folder) / CONFIG_FILE, "use another --out or --fresh")


def read_object(path: epath.PathLike, remedy: str) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file.

    Raises:
      UserError: when it cannot be read, with the remedy.
    """
    try:
        content = json.loads(epath.Path(path).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = one_line(error)
    else:
        if isinstance(content, dict):
            return content
        reason = f"it holds a {type(content).__name__} in place of an object"
    raise UserError(f"cannot read {path} ({reason}): {remedy}")


def read_metrics(folder: epath.PathLike) -> dict[str, float] | None:
    """The metrics of a run; None where it has none.

    Raises:
      UserError: when they cannot be read, or one is no number.
    """
    path, remedy = epath.Path(folder) / METRICS_FILE, "evaluate the run again with --eval-only"
    metrics = read_object(path, remedy)
    bad = [name for name, value in (metrics or {}).items() if not isinstance(value, (int, float))]
    if bad:
        raise UserError(f"{path}: {bad[0]} is no number; {remedy}")
    return metrics


def check_config(
    folder: epath.PathLike,
    config: Mapping[str, Any],
    ignore: Sequence[str] = (),
    remedy: str = "use another --out or --fresh",
) -> None:
    """Refuses to go on with a run of another configuration; a folder without `config.json` and checkpoints passes.

    Args:
      folder: the run's folder.
      config: this run's configuration, nested mappings allowed.
      ignore: fields that may differ, as dotted paths; a path covers everything below it.
      remedy: what a refusal tells to do.

    Raises:
      UserError: names every differing field with both values; or there are checkpoints and no `config.json`.
    """
    saved = read_config(folder)
    if saved is None:
        if has_checkpoints(folder):
            raise UserError(f"{folder} has checkpoints and no {CONFIG_FILE}, of what: {remedy}")
        return
    old, new = flat_settings(saved), _as_saved(config)
    differing = _differing(old, new, ignore)
    if differing:
        raise UserError(
            f"checkpoint in {folder} was made with {_listed(old, differing)}, "
            f"this run has {_listed(new, differing)}: {remedy}"
        )


def has_config(folder: epath.PathLike, config: Mapping[str, Any], ignore: Sequence[str] = ()) -> bool:
    """Whether the folder's `config.json` is this configuration; arguments as of `check_config`."""
    saved = read_config(folder)
    return saved is not None and not _differing(flat_settings(saved), _as_saved(config), ignore)


def has_results(folder: epath.PathLike) -> bool:
    """Whether a run has ended in this folder: its report is what it writes last."""
    return all((epath.Path(folder) / name).exists() for name in (METRICS_FILE, REPORT_FILE))


def drop_results(folder: epath.PathLike) -> None:
    """Removes what was measured, so that none of one configuration stands beside another's `config.json`."""
    for name in (REPORT_FILE, METRICS_FILE, CURVE_FILE, POWERSET_FILE):
        (epath.Path(folder) / name).unlink(missing_ok=True)


def _as_saved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings as they are when they come back from `config.json`."""
    return flat_settings(json.loads(json.dumps(config, default=str)))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str]) -> list[str]:
    skipped = tuple(f"{path}." for path in ignore)
    return [
        path
        for path in dict.fromkeys([*new, *old])
        if old.get(path, _ABSENT) != new.get(path, _ABSENT) and not f"{path}.".startswith(skipped)
    ]


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _listed(config: Mapping[str, Any], paths: Sequence[str]) -> str:
    return ", ".join(f"{path}={config.get(path, _ABSENT)}" for path in paths)
