"""No file brings code, leaves its folder, fills the memory or writes into the report's page."""

import ast
import gzip
import json
import os
import re
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import mmvae_jax
from mmvae_jax import Model, load, save
from mmvae_jax.data.cub_files import read_features
from mmvae_jax.data.mnist import read_idx
from mmvae_jax.data.polymnist import backgrounds_from
from mmvae_jax.data.polymnist_release import release
from mmvae_jax.data.svhn import read_mat
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.parameter_cache import load_parameters
from mmvae_jax.evaluation.published import Published
from mmvae_jax.runs.report import write_report
from mmvae_jax.torch_import import load_state_dict
from mmvae_jax.unpacking import unpacked
from tests import toy

Node = TypeVar("Node", bound=ast.AST)
ROOT = Path(mmvae_jax.__file__).parents[1]
SOURCES = [path for folder in ("mmvae_jax", "experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
# What turns bytes into objects or code, and what unpacks archives into folders.
UNPICKLE = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code"}
UNPACK = {"tarfile", "extractall", "extract", "unpack_archive", "ZipFile", "patoolib"}


@cache
def trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in SOURCES}


def nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    for file, tree in trees().items():
        yield from ((file, node) for node in ast.walk(tree) if isinstance(node, kind))


def imported() -> Iterator[tuple[str, str]]:
    """File and dotted name of everything that is imported."""
    for file, node in nodes(ast.Import):
        yield from ((file, alias.name) for alias in node.names)
    for file, node in nodes(ast.ImportFrom):
        yield from ((file, f"{node.module}.{alias.name}") for alias in node.names)


def calls() -> Iterator[tuple[str, str, dict[str, object]]]:
    """File, dotted name and constant keywords of every call."""
    for file, node in nodes(ast.Call):
        keywords = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        yield file, ast.unparse(node.func), keywords


def test_nothing_in_the_sources_unpickles_or_evaluates():
    assert len(SOURCES) > 80
    assert not [found for found in imported() if UNPICKLE & set(found[1].split("."))]
    found = [(name, keywords) for _, name, keywords in calls()]
    assert not [name for name, _ in found if name in ("eval", "exec", "compile", "__import__")]
    loads = [keywords for name, keywords in found if name == "np.load"]
    assert loads and all(keywords.get("allow_pickle") is False for keywords in loads)
    loads = [keywords for name, keywords in found if name == "torch.load"]
    assert loads and all(keywords.get("weights_only") is True for keywords in loads)


def test_one_module_alone_opens_archives():
    words = [(file, set(name.split("."))) for file, name in imported()] + [
        (file, set(name.split("."))) for file, name, _ in calls()
    ]
    found = {(file, word) for file, names in words for word in names & UNPACK}
    assert found == {("mmvae_jax/unpacking.py", "ZipFile")}


class Touches:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(action: Callable[..., object], *arguments: object) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Pillow's own word before ours
        with pytest.raises(UserError) as caught:
            action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_arrays_that_bring_code_are_refused(kind: str, tmp_path: Path):
    path, made = tmp_path / "weights.npz", tmp_path / "made"
    with path.open("wb") as file:
        (np.savez if kind == "npz" else np.save)(file, np.array([Touches(made)], object))
    assert "is no state dict of arrays" in refused(load_state_dict, path)
    told: list[str] = []
    assert load_parameters(path, {"kernel": np.zeros(3)}, told.append) is None
    assert len(told) == 1 and "damaged" in told[0] and "\n" not in told[0]
    assert not made.exists()


def test_a_pytorch_file_that_brings_code_is_refused(tmp_path: Path):
    torch = pytest.importorskip("torch")
    path, made = tmp_path / "enc_m0", tmp_path / "made"
    torch.save({"weight": Touches(made)}, path)
    assert "is no state dict of arrays" in refused(load_state_dict, path)
    assert not made.exists()


def bomb(path: Path, content: bytes) -> Path:
    """A gzip file of a given beginning and 64 MiB of zeros."""
    path.write_bytes(gzip.compress(content + bytes(2**26), 1))
    return path


def test_idx_files_that_unpack_to_more_than_they_say_or_can(tmp_path: Path):
    path = bomb(tmp_path / "train-images-idx3-ubyte.gz", struct.pack(">4I", 2051, 2, 28, 28))
    tracemalloc.start()
    assert "bytes left over" in refused(read_idx, path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    packed = gzip.compress(struct.pack(">4I", 2051, 2**31, 28, 28) + bytes(100))
    path.write_bytes(packed)
    assert "decompression bomb" in refused(read_idx, path, 3)
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 2, 28, 28) + bytes(100)))
    assert "truncated" in refused(read_idx, path, 3)


def test_archives_that_unpack_to_more_than_weights_can(tmp_path: Path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.zeros(3))
    content = bytearray(path.read_bytes())
    size = content.index(b"PK\x01\x02") + 24
    content[size : size + 4] = struct.pack("<I", 2**30)
    path.write_bytes(content)
    assert "decompression bomb" in refused(load_state_dict, path)
    assert "decompression bomb" in refused(read_features, str(path), 3)
    model = Model((toy.modality("normal"),), 2)
    save(tmp_path, model, model.init(jax.random.key(0)))
    record = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "parameters.npz").write_bytes(content)
    (tmp_path / "model.json").write_text(json.dumps({**record, "crc32": zlib.crc32(content)}))
    assert "decompression bomb" in refused(load, tmp_path, model)
    told: list[str] = []
    assert load_parameters(path, {"a": np.zeros(3)}, told.append) is None
    assert len(told) == 1


def test_members_of_an_archive_cannot_leave_its_folder(tmp_path: Path):
    (tmp_path / "site").mkdir()
    path = tmp_path / "site" / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up.jpg", "/root.jpg", "../site/pictures.zip", "pictures/1.jpg"):
            archive.writestr(name, name)
    before = path.read_bytes()
    folder = unpacked(path)
    assert sorted(file.name for file in folder.iterdir()) == ["1.jpg", "pictures.zip", "root.jpg", "up.jpg"]
    assert sorted(file.name for file in tmp_path.rglob("*.jpg")) == ["1.jpg", "root.jpg", "up.jpg"]
    assert path.read_bytes() == before and not Path("/root.jpg").exists()


def test_archives_that_cannot_be_unpacked_leave_nothing(tmp_path: Path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jpg", bytes(100))
        archive.writestr("2.jpg", bytes(range(100)))
    content = bytearray(path.read_bytes())
    content[content.index(bytes(range(100))) + 50] ^= 1
    path.write_bytes(content)
    assert "cannot be unpacked (Bad CRC-32 for file '2.jpg')" in refused(unpacked, path)
    assert list(tmp_path.iterdir()) == [path]


def test_matlab_files_that_announce_more_than_pictures_can(tmp_path: Path):
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<4i", 32, 32, 3, 2), struct.pack("<4i", 32, 32, 3, 2**30)))
    assert "decompression bomb" in refused(read_mat, path)
    savemat(path, {"X": np.array([np.zeros(3)] * 2, object), "y": np.ones((2, 1), np.uint8)})
    assert "X of type cell" in refused(read_mat, path)


def picture(path: Path, width: int, height: int) -> None:
    """A PNG file that announces a size and brings nothing of it."""
    Image.new("1", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">2I", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


@pytest.mark.parametrize("width", [2 * 10**4, 2 * 10**6])
def test_pictures_of_more_pixels_than_can_be(width: int, tmp_path: Path):
    for name in ("pictures", "release/train/m0", "release/test/m0"):
        (tmp_path / name).mkdir(parents=True)
    picture(tmp_path / "pictures" / "1.png", width, 5000)
    assert "1.png" in refused(backgrounds_from, tmp_path / "pictures")
    picture(tmp_path / "release" / "train" / "m0" / "0.0.png", width, 5000)
    picture(tmp_path / "release" / "test" / "m0" / "0.0.png", width, 5000)
    assert "0.0.png" in refused(release, tmp_path / "release", ("m0",))


class Tags(HTMLParser):
    """All tags with the names of their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def page_with(word: str, place: Path) -> str:
    """A report in which everything that comes from outside holds a word."""
    folder = place / word.replace("/", "\N{DIVISION SLASH}")
    folder.mkdir()
    figure = folder / f"data{word.replace('/', '')}.png"
    figure.write_bytes(b"png")
    subsets = {f"probe/{word}": 0.5, f"coherence/conditional/{word}->{word}": 0.5, "probe/by_size/1": 0.5}
    metrics = {**subsets, f"standard_error/probe/{word}": 0.1, word: 1.0, "train/steps": 3}
    config = {name: word for name in ("model_name", "preset", "data", "seed", "out")}
    config |= {"own": {word: word}, "architecture": {"fusion": word}}
    published = [Published(word, word, {f"probe/{word}": 0.5, "probe/by_size/1": 0.5, "probe": 0.5}, word)]
    shown = {"names": ["a", word], "subsets": [word], "tuples": 1, "modalities": [{"texts": [[word], [word]]}] * 2}
    page = write_report(folder, config, metrics, [figure], {word: word}, published, powerset=shown)
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "&lt;script&gt;",
        "</title></style><b>",
        "<!--",
    ],
)
def test_the_report_shows_hostile_words_and_obeys_none(hostile: str, tmp_path: Path):
    page = page_with(hostile, tmp_path)
    assert Tags(page).found == Tags(page_with("harmless", tmp_path)).found
    shown = re.sub("<.*?>", "", page)
    assert shown.count("&") >= 10 and hostile not in page


def test_names_of_folders_that_are_no_text_are_shown(tmp_path: Path):
    page = write_report(tmp_path, {"data": os.fsdecode(b"caf\xe9")}, {}, [], {}).read_text(encoding="utf-8")
    assert "caf\\udce9" in page
