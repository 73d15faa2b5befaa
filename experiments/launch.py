"""Start several processes of a command on this machine, which JAX makes one run of.

    python -m experiments.launch --processes=4 -- python -m experiments.polymnist --fusion=mopoe

For trying out what a pod or cluster will do, and for tests. What process 0 prints is shown as it is, what only another
one prints with its number in front. When one ends, all end; the exit code is the worst of theirs.
"""

import sys

from mmvae_jax.runs.launch import main

if __name__ == "__main__":
    sys.exit(main())
