"""Small files in the official layouts."""

import gzip
import http.server
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mmvae_jax.errors import UserError


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array in the idx format."""
    return struct.pack(f">I{array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def error_of() -> Callable[..., str]:
    """Calls a function with a user's mistake and gives the error, which must be one line."""

    def call(action, *args) -> str:
        with pytest.raises(UserError) as caught:
            action(*args)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """Serves a folder's files in a download site's place: their common address. What tfds downloads is kept apart."""
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with ExitStack() as running:
        yield lambda folder: running.enter_context(_serving(folder))


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """The four idx files: 40 training (gzipped) and 20 test images (plain) of ten classes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for prefix, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            if prefix == "train":
                (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{prefix}-{name}-ubyte").write_bytes(content)
    return folder


@pytest.fixture
def release_folder(tmp_path: Path) -> Path:
    """An official release of 24 + 12 tuples, each modality's files created in another order.

    Pixel (0, 0) holds (modality, index, label), so that a test can tell where a picture came from.
    """
    rng = np.random.default_rng(1)
    folder = tmp_path / "release"
    for split, count in (("train", 24), ("test", 12)):
        for m in range(5):
            (folder / split / f"m{m}").mkdir(parents=True)
            for i in rng.permutation(count):
                index, label = i // 2, i % 2 + 3 * (i % 3)
                pixels = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
                pixels[0, 0] = m, index, label
                Image.fromarray(pixels).save(folder / split / f"m{m}" / f"{index}.{label}.png")
    return folder


@pytest.fixture
def svhn_folder(tmp_path: Path) -> Path:
    """A folder of SVHN's two files: 50 + 30 random pictures, labels 1 to 10 in turn."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "svhn"
    folder.mkdir()
    for split, count in (("train", 50), ("test", 30)):
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]
        savemat(folder / f"{split}_32x32.mat", {"X": images, "y": labels}, do_compression=True)
    return folder
