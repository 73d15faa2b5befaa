"""Runs of one experiment for all combinations of its flags' values, several seeds each; table, curves and trade-off.

    python -m experiments.sweep mnist_svhn_text --seeds=5 --model=poe,moe,mopoe --beta=0.5,1,2.5,5,10,20
    python -m experiments.sweep my_experiment.py --seeds=3 --latent-dim=8,16 --jobs=2 -- --steps=2000

Any flag takes a list; those after -- are for all runs. Kill it anywhere: the same command goes on, does nothing twice.
"""

import sys

from mmvae_jax.runs.sweep import main

if __name__ == "__main__":
    sys.exit(main(__package__ or "experiments"))
