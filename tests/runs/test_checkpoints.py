"""Checkpoints: bit identity, damage, kill -9, and what is kept."""

import random
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from mmvae_jax.errors import UserError
from mmvae_jax.runs import checkpoints
from mmvae_jax.runs.checkpoints import Checkpoints

OPTIMIZER = optax.chain(optax.clip(1.0), optax.adam(1e-2))


class State(NamedTuple):
    params: PyTree
    opt_state: PyTree
    step: Array
    key: Array


def fresh_state(seed: int = 0, width: int = 5) -> State:
    params = {
        "dense": {
            "kernel": jax.random.normal(jax.random.key(seed), (width, 4)),
            "bias": jnp.ones(4),
        },
        "half": jnp.full(3, 1 / 3, jnp.bfloat16),
        "nothing": jnp.zeros((0, 2)),
    }
    return State(params, OPTIMIZER.init(params), jnp.zeros((), jnp.int32), jax.random.key(seed + 7))


@partial(jax.jit, donate_argnums=0)
def train_step(state: State) -> State:
    key = jax.random.fold_in(state.key, state.step)
    noise = jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape, leaf.dtype), state.params)
    updates, opt_state = OPTIMIZER.update(noise, state.opt_state, state.params)
    return State(optax.apply_updates(state.params, updates), opt_state, state.step + 1, state.key)


def train(state: State, steps: int) -> State:
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam relies on it
        for _ in range(steps):
            state = train_step(state)
    return state


def at_step(step: int) -> State:
    return fresh_state(seed=step)._replace(step=jnp.asarray(step, jnp.int32))


def bits(state: State) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Dtype, shape and bytes of every leaf, as a copy."""
    rows = []
    for leaf in jax.tree.leaves(state):
        typed_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if typed_key else leaf)
        rows.append((str(leaf.dtype), leaf.shape, array.tobytes()))
    return rows


def never(message: str) -> None:
    raise AssertionError(f"unexpected report: {message}")


def save_if_due(saved: Checkpoints, step: int, loss: float) -> bool:
    return saved.due(step) and saved.save(at_step(step), loss)


def opened(folder: Path, keep_last: int = 2, every_steps: int = 1, every_minutes: float = 0.0):
    return Checkpoints(folder, keep_last, every_steps=every_steps, every_minutes=every_minutes)


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints 3 and 5."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    with opened(folder) as saved:
        saved.save(at_step(3), 1.0)
        saved.save(at_step(5), 2.0)
    return folder


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Path):
    with opened(tmp_path) as saved:
        assert saved.restore(fresh_state(), never) is None
        state = train(fresh_state(), 4)
        before = bits(state)
        assert saved.save(state, 1.0)
    uninterrupted = bits(train(state, 5))
    with opened(tmp_path) as saved:
        resumed = saved.restore(fresh_state(seed=1), never)
    assert resumed is not None
    assert bits(resumed) == before
    assert bits(train(resumed, 5)) == uninterrupted


def test_a_donated_step_does_not_reach_into_a_save_in_flight(tmp_path: Path):
    state = train(fresh_state(width=50_000), 1)
    before = bits(jax.tree.map(jnp.copy, state))
    with opened(tmp_path) as saved:
        saved.save(state, 1.0)
        after = train(state, 3)
        saved.wait()
        restored = saved.restore(fresh_state(width=50_000), never)
    assert restored is not None
    assert bits(restored) == before
    assert bits(after) != before


def test_a_compiled_step_takes_a_restored_state_without_a_new_compilation(tmp_path: Path):
    step = jax.jit(lambda state: state._replace(step=state.step + 1), donate_argnums=0)
    with opened(tmp_path) as saved:
        saved.save(at_step(3), 1.0)
        saved.wait()
        restored = saved.restore(fresh_state(), never)
    assert restored is not None
    fresh = fresh_state()
    committed = [leaf.committed for leaf in jax.tree.leaves(restored)]
    assert committed == [leaf.committed for leaf in jax.tree.leaves(fresh)]
    step(fresh)
    step(restored)
    assert step._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]
    kernel = restored.params["dense"]["kernel"]
    assert kernel.is_deleted(), "the restored state was not donated"


def test_a_sharded_state_keeps_its_shardings(tmp_path: Path):
    devices = np.array(jax.devices())
    mesh = Mesh(devices, ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    state = State(
        jax.device_put(jnp.arange(4.0 * len(devices)), sharding),
        (),
        jax.device_put(jnp.asarray(2, jnp.int32), everywhere),
        jax.device_put(jax.random.key(3), everywhere),
    )
    with opened(tmp_path) as saved:
        saved.save(state, 1.0)
        saved.wait()
        restored = saved.restore(jax.tree.map(jnp.copy, state), never)
    assert restored is not None
    assert bits(restored) == bits(state)
    assert restored.params.sharding.is_equivalent_to(sharding, 1)
    assert restored.key.sharding.is_equivalent_to(everywhere, 0)
    assert restored.params.committed


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "garbage":
        content = bytearray(random.Random(0).randbytes(len(content)))
    else:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "truncated", "garbage", "bit flip"])
def test_any_damaged_file_falls_back_or_does_no_harm(
    two_saved: Path, tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]
):
    newest, before = bits(at_step(5)), bits(at_step(3))
    fell_back = 0
    for file in sorted(path for path in (two_saved / "5").rglob("*") if path.is_file()):
        folder = tmp_path / "checkpoints"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(two_saved, folder)
        damage(folder / file.relative_to(two_saved), how)
        reports: list[str] = []
        with opened(folder) as saved:
            restored = saved.restore(fresh_state(), reports.append)
        assert restored is not None
        assert capfd.readouterr().err == ""
        assert bits(restored) == (before if reports else newest), file
        fell_back += len(reports)
        for line in reports:
            assert "checkpoint 5" in line and "step 3" in line and "\n" not in line
    assert fell_back >= 4, "the arrays, their index and their checksums should each have mattered"


def break_step(folder: Path, step: int) -> None:
    shutil.rmtree(folder / str(step) / "default")


def test_after_falling_back_the_damaged_step_can_be_saved_again(two_saved: Path, tmp_path: Path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    break_step(folder, 5)
    reports: list[str] = []
    with opened(folder) as saved:
        saved.restore(fresh_state(), reports.append)
        assert saved.steps() == [3]
        assert (folder / "5").exists(), "restoring alone must change nothing"
        assert saved.save(at_step(5), 2.0)
        assert saved.steps() == [3, 5]
    with opened(folder) as saved:
        restored = saved.restore(fresh_state(), never)
    assert restored is not None and bits(restored) == bits(at_step(5))
    assert len(reports) == 1


def test_when_every_checkpoint_is_damaged_the_remedy_is_named(two_saved: Path, tmp_path: Path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    break_step(folder, 3)
    break_step(folder, 5)
    with opened(folder) as saved, pytest.raises(UserError) as error:
        saved.restore(fresh_state(), never)
    message = str(error.value)
    assert str(folder) in message and "--fresh" in message and "5, 3" in message
    assert "\n" not in message


def test_a_state_of_another_shape_is_refused(two_saved: Path):
    with opened(two_saved) as saved, pytest.raises(UserError, match="--fresh"):
        saved.restore(fresh_state(width=6), never)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path):
    losses = {1: 3.0, 2: 1.0, 3: float("nan"), 4: 2.0, 5: 5.0, 6: 4.0}
    with opened(tmp_path) as saved:
        for step, loss in losses.items():
            saved.save(at_step(step), loss)
        saved.wait()
        assert saved.steps() == [2, 5, 6]
        assert saved.best_step == 2
    with opened(tmp_path, keep_last=1) as saved:
        assert saved.best_step == 2
        saved.save(at_step(7), 0.5)
        saved.wait()
        assert saved.steps() == [7]
        assert saved.best_step == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7"]


def test_every_so_often_one_is_kept_for_good(tmp_path: Path):
    with Checkpoints(tmp_path, keep_last=1, every_steps=2, keep_every=3) as saved:
        for step in range(1, 12):
            save_if_due(saved, step, 1.0 + step)
        saved.wait()
        assert saved.steps() == [2, 3, 6, 9, 11]  # the best, every third, the last
    with Checkpoints(tmp_path, keep_last=1, keep_every=3) as saved:
        assert not save_if_due(saved, 10, 0.5)
        assert save_if_due(saved, 12, 0.5)
        saved.wait()
        assert saved.steps() == [3, 6, 9, 12]


def test_a_step_is_saved_once(tmp_path: Path):
    with opened(tmp_path) as saved:
        assert saved.best_step is None
        assert saved.save(at_step(1), 1.0)
        assert not saved.save(at_step(1), 0.0)


def test_saves_when_enough_steps_have_passed(tmp_path: Path):
    with opened(tmp_path, every_steps=3, keep_last=9) as saved:
        for step in range(1, 9):
            save_if_due(saved, step, 1.0)
        assert saved.steps() == [3, 6]
    with opened(tmp_path, every_steps=3, keep_last=9) as saved:
        saved.restore(fresh_state(), never)
        assert not save_if_due(saved, 8, 1.0)
        assert save_if_due(saved, 9, 1.0)


def test_saves_when_enough_minutes_have_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start = time.monotonic()
    clock = [start]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    with opened(tmp_path, every_steps=0, every_minutes=2.0) as saved:
        clock[0] = start + 119
        assert not save_if_due(saved, 1, 1.0)
        clock[0] = start + 121
        assert save_if_due(saved, 2, 1.0)
        clock[0] = start + 200
        assert not save_if_due(saved, 3, 1.0)
        clock[0] = start + 242
        assert save_if_due(saved, 4, 1.0)


def test_clear_starts_over(two_saved: Path, tmp_path: Path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    with opened(folder) as saved:
        saved.clear()
        assert saved.steps() == [] and saved.best_step is None
        assert saved.restore(fresh_state(), never) is None
        assert saved.save(at_step(3), 1.0)
        assert saved.steps() == [3]


@pytest.fixture
def full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_save_that_cannot_be_written_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    state = fresh_state(width=20_000)
    with (
        pytest.raises(UserError, match=r"cannot write a checkpoint to .*--out"),
        opened(tmp_path) as s,
    ):
        s.save(state, 1.0)
        s.wait()
    assert "Traceback" not in capfd.readouterr().err


SAVES_FOREVER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from typing import NamedTuple
    import jax, jax.numpy as jnp
    from mmvae_jax.runs.checkpoints import Checkpoints

    class State(NamedTuple):
        params: dict
        step: jax.Array

    def at_step(step):
        params = {str(i): jnp.full(2000, step + i, jnp.float32) for i in range(10)}
        return State(params, jnp.asarray(step, jnp.int32))

    with Checkpoints(Path(sys.argv[1]), 2, every_steps=1, every_minutes=0) as saved:
        state = saved.restore(at_step(0), lambda line: print("damaged:", line, flush=True))
        step = 0 if state is None else int(state.step)
        for name, value in ({} if state is None else state.params).items():
            assert (value == step + int(name)).all(), "a restored array is not the saved one"
        print("restored", step, flush=True)
        while len(sys.argv) == 2:
            step += 1
            saved.save(at_step(step), -float(step))
            print("started", step, flush=True)
""")


def last_number(output: str, word: str) -> int:
    return max(int(line.split()[1]) for line in output.splitlines() if line.startswith(word))


def test_kill_9_at_random_moments_leaves_a_restorable_folder(tmp_path: Path):
    moments = random.Random(2)
    command = [sys.executable, "-c", SAVES_FOREVER, str(tmp_path / "checkpoints")]
    finished = 0
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            output = "".join(process.stdout.readline() for _ in range(moments.randint(4, 7)))
            time.sleep(moments.uniform(0, 0.05))  # somewhere within a save, of whatever speed
            process.kill()
            output += process.stdout.read()
        assert output.startswith("restored"), output
        assert last_number(output, "restored") >= finished
        # A save starts only when the one before is on disk.
        started = [line for line in output.splitlines() if line.startswith("started")]
        finished = max(finished, last_number(output, "started") - 1 if started else 0)
    output = subprocess.check_output([*command, "only restore"], text=True)
    assert last_number(output, "restored") >= finished > 4
    assert "damaged" not in output
