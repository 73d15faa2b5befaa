"""Binarised MNIST and labels (Wu & Goodman 2018, supplement): `mnist_label` with black and white pixels.

    python -m experiments.binary_mnist_label --model=mvae
    python -m experiments.binary_mnist_label --model=mvae --binarisation=stochastic
    python -m experiments.binary_mnist_label --model=mvae --preset=paper --data=<folder with mnist/>

A pixel is white with the probability of its grey level, drawn once for all epochs by a fixed seed
(--binarisation=fixed, the default) or anew in every epoch (stochastic). Test images are drawn once.
Expected (Table 1, full MNIST): log p(x) of the image near -86 nats, of both modalities 0.2 below it.
"""

import sys

from mmvae_jax.runs import Experiment, main

from .mnist_label import load, modalities, presets, supplement_tables

_TABLES = {
    "jmvae": (-86.234, -86.304, -83.820, 22.387, 23.309),
    "mvae": (-86.051, -86.278, -83.940, 21.791, 21.917),
}

EXPERIMENT = Experiment(
    name="binary_mnist_label",
    presets=presets("fixed"),
    load=load,
    modalities=modalities,
    published=supplement_tables("binary_mnist", "label", _TABLES),
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
