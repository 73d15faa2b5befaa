"""What keeps a run: its command line, folder, log, checkpoints and report, and the runner of every experiment.

An experiment of your own is one file, anywhere, that says what is special to it and hands that to `main`:

    import sys

    from mmvae_jax import Model, Modality, Training
    from mmvae_jax.runs import Config, Experiment, main

    EXPERIMENT = Experiment(name=..., presets={"quick": Config(...)}, load=..., modalities=...)

    if __name__ == "__main__":
        sys.exit(main(EXPERIMENT))
"""

from mmvae_jax.runs.config import Config, Saving
from mmvae_jax.runs.runner import Experiment, load_run, main

__all__ = ["Config", "Experiment", "Saving", "load_run", "main"]
