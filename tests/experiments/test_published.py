"""Published numbers belong to models and metrics that there are."""

from experiments.polymnist import PUBLISHED
from mmvae_jax.evaluation.measuring import by_size, metric_of
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.evaluation.published import by_inputs
from mmvae_jax.zoo import MODELS


def test_every_published_number_has_a_model_and_a_metric_and_one_place():
    assert {each.model for each in PUBLISHED} <= MODELS.keys()
    for each in PUBLISHED:
        assert each.metrics and each.settings
        for name, value in each.metrics.items():
            row = METRICS[metric_of(name)]
            assert 0 < value <= 1 if row.fraction else value > 1
    assert len({(each.model, each.source) for each in PUBLISHED}) == len(PUBLISHED)


def test_numbers_are_found_by_their_inputs():
    (paper,) = [each for each in PUBLISHED if (each.model, each.source) == ("mopoe", "MVTCAE paper")]
    assert by_size(paper.metrics, "probe") == {1: 0.82, 2: 0.905, 3: 0.93, 4: 0.94, 5: 0.95}
    assert by_size(by_inputs("coherence/conditional", 0.5, 0.75), "coherence/conditional") == {1: 0.5, 2: 0.75}
