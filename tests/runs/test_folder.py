"""A run's folder, and the configuration that a continuation must share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath

from mmvae_jax.errors import UserError
from mmvae_jax.runs.folder import (
    absolute,
    check_config,
    drop_results,
    flat_settings,
    has_checkpoints,
    held,
    prepare_folder,
    read_config,
    write_config,
)

CONFIG = {"latent_dim": 32, "steps": 100, "model": {"fusion": "poe", "layers": (1, 2)}}


def test_the_same_configuration_passes(tmp_path: Path):
    check_config(tmp_path, CONFIG)
    assert read_config(tmp_path) is None
    write_config(tmp_path, CONFIG | {"out": Path("runs/a")})
    check_config(tmp_path, CONFIG | {"out": Path("runs/a")})
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "config.json").read_text())["model"]["layers"] == [1, 2]


def test_another_configuration_is_refused_with_every_difference_named(tmp_path: Path):
    write_config(tmp_path, CONFIG)
    other = {"latent_dim": 64, "steps": 9, "model": {"fusion": "moe", "layers": [1, 2]}, "new": 1}
    with pytest.raises(UserError) as error:
        check_config(tmp_path, other, ignore=["steps"])
    assert str(error.value) == (
        f"checkpoint in {tmp_path} was made with latent_dim=32, model.fusion=poe, new=(absent), "
        "this run has latent_dim=64, model.fusion=moe, new=1: use another --out or --fresh"
    )
    check_config(tmp_path, other, ignore=["steps", "latent_dim", "model", "new"])
    with pytest.raises(UserError, match="latent_dim=32, this run"):
        check_config(tmp_path, other, ignore=["steps", "latent", "model.fusion", "new"])


@pytest.mark.parametrize("content", [b'{"latent_dim": 3', b"\x00\xff\xfe", b"", b"[1, 2]"])
def test_a_corrupt_configuration_is_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json.*--fresh") as error:
        check_config(tmp_path, CONFIG)
    assert "\n" not in str(error.value)


def test_a_bucket_has_an_absolute_path_and_needs_a_library_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert str(absolute("gs://bucket/run")) == "gs://bucket/run" and absolute("run") == epath.Path(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"gs://bucket/run cannot be reached: .*pip install 'etils\[epath-gcs\]'"):
        prepare_folder("gs://bucket/run")
    with pytest.raises(UserError, match="gs://bucket/run cannot be reached"):
        has_checkpoints("gs://bucket/run")
    with held("gs://bucket/run"), held("gs://bucket/run"):
        pass


def test_a_folder_is_created_with_its_parents_and_left_empty(tmp_path: Path):
    prepare_folder(tmp_path / "a" / "b")
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/self/below", "x" * 300, "\udcff"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, where: str):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*; choose another --out") as error:
        prepare_folder(tmp_path / where)
    assert "\n" not in str(error.value)


def test_what_was_measured_is_dropped_and_all_else_stays(tmp_path: Path):
    drop_results(tmp_path)
    kept = {"config.json", "log.jsonl", "run.json"}
    dropped = {"metrics.json", "report.html", "curve.json", "powerset.json"}
    for name in kept | dropped:
        (tmp_path / name).write_text("")
    drop_results(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_settings_are_flattened_to_dotted_names():
    assert flat_settings({"a": 1, "b": {"c": {"d": 2}}}) == {"a": 1, "b.c.d": 2}


HOLDS = """
import sys
from mmvae_jax.runs.folder import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_run_until_it_ends_or_is_killed(tmp_path: Path):
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is in use by another run: wait for its end"), held(tmp_path):
            pass
        other.kill()
    with held(tmp_path):
        pass
    with held(tmp_path):
        pass
