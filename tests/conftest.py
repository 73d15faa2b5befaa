"""Settings of every test, fixed before JAX starts: the CPU, so that tolerances and bits are the same everywhere."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from unittest.mock import patch

import jaxlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Where libtpu is installed it would ask which TPU this is.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
# Compiling takes most of the time: with few optimisations it takes half, here and in processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
OLDER_EMITTERS = jaxlib.version.__version_info__ < (0, 12)
if OLDER_EMITTERS:  # of loops: with them it takes less than half of that
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
# What several tests compile, in this process, pytest's workers or one that a test starts, is compiled once.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="compiled-")  # goes with the process that made it, the last to end
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

import tests.typecheck  # noqa: E402, F401

# Types and shapes of all arguments and results are checked against the annotations.
jaxtyping.install_import_hook("mmvae_jax", "tests.typecheck.checked")

from mmvae_jax import loop  # noqa: E402
from tests.by_hand import fix_noise, noise  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that train something come first, so that no worker is left with a long one when the others have ended.

    Those marked alone come last: by then the other workers have ended.
    """
    slow, alone = ({item.path for item in items if item.get_closest_marker(marker)} for marker in ("slow", "alone"))
    items.sort(key=lambda item: (item.path in alone, item.path not in slow))


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    """Lets a module's programs go: those of all tests are more pieces of memory than Linux lets one process map."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def newer_emitters() -> Iterator[None]:
    """Training compiled by XLA's newer emitters, as users' is: where two programs are to round alike."""
    with patch.dict(loop.CPU_OPTIONS, {"xla_cpu_use_fusion_emitters": True} if OLDER_EMITTERS else {}):
        yield


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test registers is gone afterwards."""
    from mmvae_jax.registration import TABLES

    with ExitStack() as kept:
        for table in TABLES.values():
            kept.enter_context(patch.dict(table))
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as for users: where values of a wrong type are the library's own to refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def real_data() -> str:
    """The folder of real data sets in the layout of their official files, named by `MMVAE_DATA`."""
    if "MMVAE_DATA" not in os.environ:
        pytest.skip("MMVAE_DATA names no folder of real data sets")
    return os.environ["MMVAE_DATA"]


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws without a random number: the same noise, different in every latent dimension, wherever one is drawn.

    Losses become deterministic functions that a test can write out, and that do not depend on how many components or
    modalities a model has. Objectives must be asked for expectation="all", or have one component.
    """
    fix_noise(monkeypatch, noise)
