"""Compiled programs are kept and found again."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from mmvae_jax.compilation import cache_compiled


@pytest.fixture
def settings():
    """JAX's, as they are, are set again."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.usefixtures("settings")
def test_programs_are_kept_in_the_folder_and_read_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    jax.block_until_ready(jax.jit(lambda x: x - 41.0)(jnp.ones(3)))  # the first program comes before
    cache_compiled(tmp_path / "new" / "compiled")
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    try:
        for hits in (0, 1):
            assert float(jax.jit(lambda x: jnp.sum(x * 17.25))(jnp.ones(3))) == 51.75
            assert any((tmp_path / "new" / "compiled").iterdir())
            assert ("/jax/compilation_cache/cache_hits" in events) == bool(hits)
            jax.clear_caches()
    finally:
        jax.monitoring.clear_event_listeners()


@pytest.mark.usefixtures("settings")
def test_jaxs_own_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    cache_compiled(tmp_path / "other")
    assert jax.config.jax_compilation_cache_dir == before
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
