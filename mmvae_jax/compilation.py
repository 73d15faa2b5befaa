"""Compiled programs, kept from one start of Python to the next."""

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def cache_compiled(folder: Path | str = "~/.cache/mmvae_jax/compiled") -> None:
    """Keep compiled programs in a folder: what was compiled once, in this process or an earlier one, is read.

    Small ones as well, for a model's first `infer` outside of `jit` is made of many. JAX's variable
    JAX_COMPILATION_CACHE_DIR, where it is set, names the folder instead.

    Args:
      folder: is made where it does not exist; several processes may share it.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        compilation_cache.reset_cache()  # JAX settles on a folder, or on none, with the first program
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
