"""BLEU of sentences that are generated as translations, by sacrebleu, and bootstrap replicates of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sacrebleu.metrics.bleu import BLEU

REPLICATES = 200


def bleu_replicates(
    told: Sequence[str], truth: Sequence[str], seed: int, replicates: int = REPLICATES
) -> Float[np.ndarray, "R"]:
    """BLEU of a corpus, 0 to 100, then bootstrap replicates of it (Papineni et al. 2002; Koehn 2004, section 3).

    It is sacrebleu's, in its default setting, `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` (Post 2018): sentences
    are cut into words by its tokeniser 13a, whatever the model's own symbols are.

    Args:
      told: what was generated, a sentence each.
      truth: the one reference of each.
      seed: of the sentences that a replicate draws, as many as there are, with replacement.
      replicates: how many.
    """
    scorer = BLEU()
    counts = np.array([_counts(scorer, *pair) for pair in zip(told, truth, strict=True)])
    draws = np.random.default_rng(seed).integers(len(counts), size=(replicates, len(counts)))
    return np.array([_score(scorer, counts[rows].sum(0)) for rows in (slice(None), *draws)])


def _counts(scorer: BLEU, told: str, truth: str) -> list[int]:
    """A sentence's sufficient statistics: n-grams that are right, n-grams told, and both lengths."""
    found = scorer.corpus_score([told], [[truth]])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def _score(scorer: BLEU, counts: Int[np.ndarray, "F"]) -> float:
    *ngrams, told, truth = counts.tolist()
    right, total = ngrams[: len(ngrams) // 2], ngrams[len(ngrams) // 2 :]
    return scorer.compute_bleu(right, total, told, truth, smooth_method=scorer.smooth_method).score
