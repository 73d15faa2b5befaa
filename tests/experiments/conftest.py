"""What every experiment's tests share."""

from collections.abc import Iterator

import pytest

from mmvae_jax.evaluation import METRICS


@pytest.fixture(scope="module", autouse=True)
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of all metrics only those that a module is about, by how the names in its `MEASURED` start.

    To compile the others takes most of a tiny run's time; tests/runs has them all.
    """
    everything = dict(METRICS)
    for name in everything:
        if not name.startswith(getattr(request.module, "MEASURED", "")):
            del METRICS[name]
    yield
    METRICS.clear()  # updated only, the table would come back in another order
    METRICS.update(everything)
