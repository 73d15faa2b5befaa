"""Compare finished runs: one table and the MoPoE paper's Figure 3.

python -m experiments.compare runs/polymnist/*-seed* --out comparison.png
"""

import sys

from mmvae_jax.runs.compare import main

if __name__ == "__main__":
    sys.exit(main())
