"""What classifiers make of a few labels: the baselines, and multimodal models, against the paired fraction.

    python -m experiments.baselines mnist_label --runs runs/mnist_label/sweep/model=*
    python -m experiments.baselines fashion_label --preset=paper --data=<folder with fashion_mnist/> --levels 0.01 0.1 1

Trains a supervised network, and logistic regression on pixels, on the hidden units of a restricted Boltzmann machine
and on the codes of a VAE, each on what `--supervision` leaves of the training tuples (Wu & Goodman 2018, supplement,
Table 4), and writes one table and one figure. The runs, of any levels of supervision, are trained by the experiment's
own command. What is known of a baseline is kept in the folder of --out: the same command goes on where it was stopped.
"""

import sys

from mmvae_jax.runs.baselines import main

from . import binary_mnist_label, fashion_label, mnist_label

EXPERIMENTS = (mnist_label.EXPERIMENT, binary_mnist_label.EXPERIMENT, fashion_label.EXPERIMENT)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENTS))
