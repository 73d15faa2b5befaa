"""Streamed splits: order, resuming, hosts, damage, and the same training as from the device."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.polymnist import EXPERIMENT
from mmvae_jax import Model, fit
from mmvae_jax.data.batching import Batch, Dataset, batch_at, fixed_split, take
from mmvae_jax.data.polymnist import polymnist
from mmvae_jax.data.streaming import FromBuilder, Streamed, memory, must_stream, streamed_split
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.classifiers import ClassifierSettings, trained_classifiers
from mmvae_jax.modality import Modality
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.runs.runner import load_run, main
from mmvae_jax.training import Training, TrainState
from tests.runs.own_experiment import EXPERIMENT as VIEWS
from tests.toy import KINDS, data, model

BATCH = 7


class Rows:
    """Tuples of arrays, one by one."""

    def __init__(self, x: dict, label: np.ndarray):
        self._x, self._label = {name: np.asarray(values) for name, values in x.items()}, label

    def __len__(self) -> int:
        return len(self._label)

    def __getitem__(self, index: int) -> tuple[dict, int]:
        return {name: values[index] for name, values in self._x.items()}, int(self._label[index])


@pytest.fixture
def streamed(release_folder) -> Streamed:
    split = polymnist(str(release_folder), streaming="on").train
    assert isinstance(split, Streamed)
    return split


@pytest.fixture
def resident(release_folder):
    return polymnist(str(release_folder), streaming="off").train


def epoch(split: Streamed, key: int, first: int = 0, rows: range = range(BATCH), ahead: int = 2) -> list[Batch]:
    plan = split.plan(split.arrays, jax.random.key(key))
    return list(split.batches(plan, first, BATCH, np.array(rows), ahead))


def assert_same(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batches_are_those_of_the_same_data_on_the_device(streamed, resident):
    plan = resident.plan(resident.arrays, jax.random.key(3))
    expected = [batch_at(resident, resident.arrays, plan, start, BATCH) for start in (0, 7, 14)]
    assert_same(epoch(streamed, 3), expected)
    assert_same(take(streamed, jax.random.key(1), 20), take(resident, jax.random.key(1), 20))


def test_an_epoch_holds_every_tuple_once_in_an_order_of_its_own(streamed):
    def origins(key: int) -> list[tuple[int, ...]]:
        return [tuple(map(int, x)) for x in np.asarray(take(streamed, jax.random.key(key), 24).x["m2"][:, 0, 0])]

    first, second = origins(0), origins(1)
    assert len(set(first)) == 24 and set(first) == set(second) and first != second


def test_an_epoch_goes_on_from_its_middle(streamed):
    assert_same(epoch(streamed, 5, first=1), epoch(streamed, 5)[1:])
    assert_same(epoch(streamed, 5, ahead=9), epoch(streamed, 5, ahead=1))


def test_hosts_read_contiguous_parts_of_the_batches_of_one(streamed):
    parts = epoch(streamed, 2, rows=range(3)), epoch(streamed, 2, rows=range(3, BATCH))
    together = [jax.tree.map(lambda *values: np.concatenate(values), *batches) for batches in zip(*parts, strict=True)]
    assert_same(together, epoch(streamed, 2))


def test_presence_is_that_of_the_tuples():
    x = {"a": np.arange(24.0), "b": np.arange(24.0)}
    presence = np.arange(24)[:, None] % np.array([2, 3]) == 0
    split = streamed_split(Rows(x, np.zeros(24, int)), ("a", "b"), b"rows", presence)
    for batch in [*epoch(split, 0), take(split, jax.random.key(0), 9)]:
        np.testing.assert_array_equal(batch.present, presence[np.asarray(batch.x["a"], int)])
    with pytest.raises(UserError, match=r"presence has shape \(3, 2\)"):
        streamed_split(Rows(x, np.zeros(24, int)), ("a", "b"), b"rows", presence[:3])


def test_identity_tells_names_and_pictures_apart(release_folder, streamed):
    def identity() -> str:
        return polymnist(str(release_folder), streaming="on").train.identity

    assert identity() == streamed.identity
    picture = min((release_folder / "train" / "m1").iterdir())
    picture.write_bytes((release_folder / "train" / "m0" / picture.name).read_bytes())
    assert (changed := identity()) != streamed.identity
    for m in range(5):
        (release_folder / "train" / f"m{m}" / picture.name).rename(release_folder / "train" / f"m{m}" / "99.0.png")
    assert identity() not in (changed, streamed.identity)


def test_provenance_does_not_say_how_tuples_are_read(release_folder):
    on, off = (polymnist(str(release_folder), streaming=streaming) for streaming in ("on", "off"))
    assert on.provenance == off.provenance


def test_auto_streams_what_would_take_much_of_the_memory():
    assert must_stream("on", 1) and not must_stream("off", 2**60)
    assert must_stream("auto", memory()) and not must_stream("auto", memory() // 8)


@pytest.mark.parametrize("kinds", [KINDS[name] for name in ("image-vector-label", "grid-string", "counts")])
def test_training_is_that_on_the_device_and_resumes_bit_for_bit(kinds, newer_emitters):
    x, label = data(kinds, 24), np.zeros(24, int)
    on_device, split = fixed_split(x, label), streamed_split(Rows(x, label), tuple(x), b"toy")
    toy, training = model("mopoe", kinds), Training(steps=8, batch_size=BATCH)
    whole = fit(toy, on_device, training, steps_per_dispatch=3)
    streamed = plain(fit(toy, split, training, steps_per_dispatch=2))
    assert_close(streamed, plain(whole))
    kept = []

    def stop(state: TrainState, progress) -> bool:
        kept.append(jax.tree.map(lambda leaf: leaf.copy(), state))
        return progress.step >= 4

    fit(toy, split, training, after=stop, steps_per_dispatch=2)
    assert int(kept[-1].step) == 5
    assert_same(plain(fit(toy, split, training, state=kept[-1], steps_per_dispatch=3)), streamed)


def assert_close(a, b) -> None:
    """But for the order of sums: the programs are two."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


def plain(state: TrainState) -> TrainState:
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def test_large_tuples_are_taken_in_smaller_windows():
    x = {"a": np.zeros((4, 2**20), np.uint8)}
    split = streamed_split(Rows(x, np.zeros(4, int)), ("a",), b"large")
    assert [split.at_once(size, 25) for size in (1, 4, 32, 999)] == [25, 16, 2, 1]


def test_a_stream_that_the_model_cannot_take_is_refused():
    x = {"a": np.full((8, 3), np.nan, np.float32)}
    toy = Model((Modality("a", (3,), MLPEncoder(()), MLPDecoder((3,), ())),), latent_dim=2)
    with pytest.raises(UserError, match="a: value nan"):
        fit(toy, streamed_split(Rows(x, np.zeros(8, int)), ("a",), b"nan"), Training(steps=1, batch_size=4))


def test_classifiers_are_those_of_the_same_data_on_the_device(release_folder, tmp_path):
    def right(streaming) -> dict[str, np.ndarray]:
        dataset = polymnist(str(release_folder), streaming=streaming)
        settings = ClassifierSettings(steps=2, batch_size=8)
        found = trained_classifiers(one_modality(dataset), tmp_path / streaming, settings, lambda line: None)
        return jax.tree.map(np.asarray, found["m0"].params)

    assert_same(right("on"), right("off"))


def one_modality(dataset: Dataset) -> Dataset:
    return Dataset(dataset.name, ("m0",), dataset.train, dataset.test, dataset.num_classes)


class Numbers(tfds.core.GeneratorBasedBuilder):
    """Vectors that hold their number."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # tfds would look for them beside this file by a package that it does not ask for

    def _info(self):
        vector = tfds.features.Tensor(shape=(3,), dtype=np.float32)
        features = {"a": vector, "b": vector, "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(20):
            yield i, {"a": np.full(3, i, np.float32), "b": np.full(3, -i, np.float32), "label": i % 10}


def test_tuples_of_a_tfds_builder(tmp_path):
    builder = Numbers(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    source = FromBuilder(builder, "train", {"x": "a", "y": "b"})
    batch = take(streamed_split(source, ("x", "y"), source.name.encode()), jax.random.key(0), 20)
    assert sorted(batch.x["x"][:, 0].tolist()) == list(range(20))
    np.testing.assert_array_equal(batch.x["y"], -batch.x["x"])
    np.testing.assert_array_equal(batch.label, batch.x["x"][:, 0] % 10)


def test_command_line_refusals(tmp_path, capsys):
    for arguments, named in ((["--streaming=on"], "--data=embedded"), (["--streaming=some"], "some")):
        assert main(EXPERIMENT, ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"), *arguments]) == 2
        error = capsys.readouterr().err
        assert "streaming" in error and named in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


class Worn(Rows):
    """Rows of which none can be read any more once there is a checkpoint."""

    def __init__(self, out: Path, x: dict, label: np.ndarray):
        super().__init__(x, label)
        self._out = out

    def __getitem__(self, index: int) -> tuple[dict, int]:
        if any((self._out / "checkpoints").glob("[0-9]*")):
            raise UserError(f"m0/{index}.png cannot be decoded")
        return super().__getitem__(index)


def test_what_a_worker_cannot_read_ends_the_run_in_one_line_and_nothing_saved_is_lost(tmp_path, capsys):
    out, rng = tmp_path / "run", np.random.default_rng(0)
    x, label = {name: rng.normal(size=(100, 3)).astype(np.float32) for name in "ab"}, np.zeros(100, int)
    train = streamed_split(Worn(out, x, label), ("a", "b"), b"worn")
    dataset = Dataset("views", ("a", "b"), train, fixed_split(x, label), 1)
    experiment = replace(VIEWS, load=lambda config: dataset)
    arguments = ["--cache", str(tmp_path / "cache"), "--out", str(out), "--steps=100000", "--every-steps=1"]
    assert main(experiment, arguments) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: m0/") and error.endswith(".png cannot be decoded")
    assert int(load_run(experiment, out)[1].step) > 0


def test_a_damaged_picture_is_named(release_folder, streamed):
    victim = sorted((release_folder / "train" / "m3").iterdir())[3]
    victim.write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be decoded") as caught:
        take(streamed, jax.random.key(0), 24)
    assert str(victim) in str(caught.value)
    with pytest.raises(UserError) as caught:
        epoch(streamed, 0) + epoch(streamed, 1)
    assert str(victim) in str(caught.value)
