"""What there is to choose from, as text tables."""

from mmvae_jax.fusion import FUSIONS
from mmvae_jax.listing import handles_missing, model_table
from mmvae_jax.objectives import OBJECTIVES
from mmvae_jax.priors import PRIORS
from mmvae_jax.zoo import MODELS


def test_only_jmvae_needs_complete_tuples():
    assert [name for name, row in MODELS.items() if not handles_missing(row)] == ["jmvae"]


def test_table_has_a_line_a_model_under_aligned_headings():
    models, *others = model_table(3).split("\n\n")
    header, *lines = models.splitlines()
    assert header.split() == ["model", "fusion", "objective", "missing", "networks", "paper"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    column = header.index("paper")
    for line, row in zip(lines, MODELS.values(), strict=True):
        assert line[column:] == row.paper
        assert line[header.index("networks") : column].strip() == str(row.network_count(3))
        assert line[header.index("missing") : header.index("networks")].strip() == (
            "yes" if handles_missing(row) else "no"
        )
    listed = [[line.split()[0] for line in table.splitlines()] for table in others]
    assert listed == [["fusion", *FUSIONS], ["objective", *OBJECTIVES], ["prior", *PRIORS]]
