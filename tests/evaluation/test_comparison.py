"""What a table of models shows of each."""

from mmvae_jax.evaluation.comparison import compare


def shown(metrics):
    return {line.split("|")[1].strip() for line in compare({"one": metrics}).splitlines()[2:]}


def test_single_values_where_they_are_few_and_else_means_by_number_of_inputs():
    probe = {"probe/m0": 0.5, "probe/m0+m1": 0.75, "probe/by_size/1": 0.5, "probe/by_size/2": 0.75}
    places = {f"accuracy/image->string{place}": 0.5 for place in ("", "/1", "/2")}
    marginal = {"log_likelihood/marginal/m0": -3.0, "standard_error/log_likelihood/marginal/m0": 1.0}
    assert shown({**probe, **places, **marginal, "coherence/joint": 0.5}) == {
        "runs",
        "Linear probe, m0",
        "Linear probe, m0+m1",
        "Accuracy, image → string",
        "Marginal log-likelihood, m0",
        "Joint coherence",
    }
    many = {f"probe/m{i}": 0.5 for i in range(7)} | {"probe/by_size/1": 0.5}
    assert shown(many) == {"runs", "Linear probe, 1 input"}
