"""What every experiment's tests share."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from mmvae_jax.evaluation import METRICS


@pytest.fixture(scope="module", autouse=True)
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of all metrics only those that a module is about, by how the names in its `MEASURED` start.

    To compile the others takes most of a tiny run's time; tests/runs has them all.
    """
    with patch.dict(METRICS):
        for name in list(METRICS):
            if not name.startswith(getattr(request.module, "MEASURED", "")):
                del METRICS[name]
        yield
