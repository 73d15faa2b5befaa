r"""Fusions: how the posteriors of single networks become a joint posterior.

Every fusion is one operation, a mixture whose components are `p(z)^a prod_{n in row s} q_n(z|x)`, under a mask matrix
of rows; fusions differ in the rows, in the prior's power `a`, and in the networks whose outputs they combine. A missing
modality makes the networks that read it know nothing, which ANDs it out of every row; rows left with no expert get no
weight, and the weights are uniform over the rows that survive.

All are abstract means of the experts (Sutter et al. 2021, section 3.3): geometric (`poe`), arithmetic (`moe`),
arithmetic of geometric (`mopoe`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from mmvae_jax import subsets
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.mixture import Mixture
from mmvae_jax.posteriors import Posterior

PriorExpert = Literal["none", "full", "all", "quotient"]
# One product of the modalities' own experts; a mixture of single experts; a mixture of products; and the families with
# networks beside the modalities' own: a joint one last, one for every subset, or replacement experts.
Kind = Literal["product", "experts", "products", "joint", "subsets", "replacements"]
Rows = Bool[np.ndarray, "S N"] | Bool[Array, "S N"]


class Network(NamedTuple):
    """An inference network: its name in the parameters, the modalities it reads, and whether it bridges their codes."""

    name: str
    inputs: tuple[int, ...]
    bridge: bool = False


def _one_each(names: Sequence[str]) -> tuple[Network, ...]:
    return tuple(Network(name, (i,)) for i, name in enumerate(names))


def _complete(present: Bool[Array, "B M"]) -> Bool[Array, "B 1"]:
    return jnp.all(present, -1, keepdims=True)


@dataclass(frozen=True)
class Fusion:
    """A row of `FUSIONS`.

    Attributes:
      summary: what it is, in a line.
      kind: what it makes, which objectives may ask for; see `Kind`.
      rows: (M, key) -> mask matrix [S, N] over the N networks; the key serves random rows only.
      prior_expert: where p(z) joins: `none`; `all` rows (MVAE's universal expert); the `full` product of all N
        experts only, never one of fewer, whatever is observed (the released MoPoE code, whose published numbers come
        from it): q(z|X_A) is then one posterior, whether the rest was observed or not; `quotient`, with power 1 - n for
        n experts, dividing out the prior that each expert already contains.
      whole_subset: given a subset A, whether to infer from the one product over A (MoPoE's q(z|X_A), Eq. 4) rather than
        from the rows within A (MoE: the mixture of A's experts).
      networks: modality names -> inference networks.
      available: presence [B, M] -> which networks may be used [B, N].
      live: presence [B, M] -> which rows may be used [S, B]; default those with an available expert (see `fuse`).
      min_modalities: how many it needs.
    """

    summary: str
    kind: Kind
    rows: Callable[[int, Key[Array, ""] | None], Rows]
    prior_expert: PriorExpert = "none"
    whole_subset: bool = True
    networks: Callable[[Sequence[str]], tuple[Network, ...]] = _one_each
    available: Callable[[Bool[Array, "B M"]], Bool[Array, "B N"]] = lambda present: present
    live: Callable[[Bool[Array, "B M"]], Bool[Array, "S B"]] | None = None
    min_modalities: int = 1

    def __post_init__(self) -> None:
        check_choice(self.kind, get_args(Kind), "kind of fusion")
        check_choice(self.prior_expert, get_args(PriorExpert), "prior-expert")

    def joint(
        self,
        experts: Posterior,
        present: Bool[Array, "B M"],
        prior: Posterior,
        key: Key[Array, ""] | None = None,
    ) -> Mixture:
        """The posterior given everything observed, that training integrates over."""
        return self._fused(experts, self.rows(present.shape[1], key), present, prior)

    def given(
        self,
        experts: Posterior,
        present: Bool[Array, "B M"],
        subset: Bool[Array, "M"] | Bool[np.ndarray, "M"],
        prior: Posterior,
    ) -> Mixture:
        """The posterior given the modalities of `subset` that are observed. `vmap` over subsets is supported."""
        within = present & subset
        rows = np.ones((1, experts.mean.shape[0]), bool) if self.whole_subset else self.rows(present.shape[1], None)
        return self._fused(experts, rows, within, prior)

    def _fused(self, experts: Posterior, rows: Rows, present: Bool[Array, "B M"], prior: Posterior) -> Mixture:
        live = None if self.live is None else self.live(present)
        return fuse(experts, rows, self.available(present), prior, self.prior_expert, live)


def fuse(
    experts: Posterior,
    rows: Rows,
    available: Bool[Array, "B N"],
    prior: Posterior,
    prior_expert: PriorExpert = "none",
    live: Bool[Array, "_ B"] | None = None,
) -> Mixture:
    """The mixture of products of experts under a mask matrix (Sutter et al. 2021, Definition 1).

    Args:
      experts: leaves [N, B, D].
      rows: mask matrix [S, N].
      available: [B, N]; unavailable experts contribute nothing, neither to values nor to gradients.
      prior: the expert p(z), leaves [D].
      prior_expert: see `Fusion`.
      live: rows that may be used, [S, B] or [1, B]; default those with an available expert, and a row written empty in
        `rows`, which is the prior itself. Where nothing at all is available all rows are live.

    Returns:
      Mixture with leaves [S, B, ...].

    Examples:
      Two experts of one sample, and MoPoE's mixture of three products; then the second expert is missing, and what is
      left of two products is the first expert:

      >>> from mmvae_jax.gaussian import Gaussian, standard
      >>> experts = Gaussian(mean=jnp.array([[[1.0]], [[3.0]]]), log_var=jnp.zeros((2, 1, 1)))
      >>> for available in ([[True, True]], [[True, False]]):
      ...     mixture = fuse(experts, subsets.powerset(2), jnp.array(available), standard(1))
      ...     print(np.exp(mixture.log_weights[:, 0]).round(2), mixture.components.mean[:, 0, 0])
      [0.33 0.33 0.33] [1. 3. 2.]
      [0.5 0.  0.5] [1. 0. 1.]
    """
    rows = jnp.asarray(rows)
    count = jnp.sum(rows[:, None, :] & available, -1)
    if live is None:
        live = (count > 0) | ~jnp.any(rows, -1, keepdims=True)
    live = jnp.broadcast_to(live | ~jnp.any(live, axis=0), count.shape)
    log_weights = jax.nn.log_softmax(jnp.where(live, 0.0, -jnp.inf), axis=0)
    powers = {
        "none": jnp.zeros(count.shape),
        "all": jnp.ones(count.shape),
        "full": (count == rows.shape[1]).astype(float),
        "quotient": 1.0 - count,
    }
    power = jnp.where(count == 0, 1.0, powers[prior_expert])
    return Mixture(log_weights, experts.products(rows, available, prior, power))


def _powerset_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """One network for every subset (VAEVAE, SVAE paper's Appendix D)."""
    masks = subsets.powerset(len(names))
    return tuple(Network(subsets.label(mask, names), tuple(np.flatnonzero(mask).tolist())) for mask in masks)


def _exact_subset(present: Bool[Array, "B M"]) -> Bool[Array, "B N"]:
    """The one network that reads exactly what is observed."""
    return jnp.all(present[:, None, :] == subsets.powerset(present.shape[1]), -1)


def _with_joint_network(bridge: bool) -> Callable[[Sequence[str]], tuple[Network, ...]]:
    def networks(names: Sequence[str]) -> tuple[Network, ...]:
        everything = Network("+".join(names), tuple(range(len(names))), bridge)
        return (*_one_each(names), everything)

    return networks


def _joint_or_singles(present: Bool[Array, "B M"]) -> Bool[Array, "B N"]:
    """The joint network where everything is observed, else the networks of what is."""
    complete = _complete(present)
    return jnp.concatenate([present & ~complete, complete], -1)


def _ordered_pairs(m: int) -> list[tuple[int, int]]:
    """(i, j): x_j stands in for the missing x_i."""
    return [(i, j) for i in range(m) for j in range(m) if i != j]


def _replacement_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """SVAE's M^2 networks: q_j(z|x_j), and for every ordered pair the replacement expert q*_i(z|x_j)."""
    m = len(names)
    replacements = tuple(Network(f"{names[j]}->{names[i]}", (j,)) for i, j in _ordered_pairs(m))
    return (*_one_each(names), *replacements)


def _replacement_rows(m: int, _: Key[Array, ""] | None) -> Rows:
    """Rule j (Eqs. D.34-D.36): every own expert, and the replacements that x_j offers."""
    sources = np.array([j for _, j in _ordered_pairs(m)])
    replacements = sources[None, :] == np.arange(m)[:, None]
    return np.concatenate([np.ones((m, m), bool), replacements], axis=1)


def _replacements_for_missing(present: Bool[Array, "B M"]) -> Bool[Array, "B N"]:
    """Own experts of what is observed; replacements q*_i(z|x_j) where x_i is missing and x_j observed."""
    missing, source = np.array(_ordered_pairs(present.shape[1])).T
    return jnp.concatenate([present, ~present[:, missing] & present[:, source]], -1)


def _replacement_rules(present: Bool[Array, "B M"]) -> Bool[Array, "S B"]:
    """Rule j serves where x_j is observed; where everything is, all rules agree and the first one stands for them."""
    first = jnp.arange(present.shape[1]) == 0
    return jnp.where(_complete(present), first, present).T


def _only_row(count: Callable[[int], int]) -> Callable[[int, Key[Array, ""] | None], Rows]:
    return lambda m, _: np.ones((1, count(m)), bool)


FUSIONS: dict[str, Fusion] = {
    "poe": Fusion("product of experts and prior", "product", lambda m, _: subsets.full(m), "all"),
    "poe_quotient": Fusion(
        "product of experts, each of which contains the prior", "product", lambda m, _: subsets.full(m), "quotient"
    ),
    "moe": Fusion("mixture of experts", "experts", lambda m, _: subsets.singletons(m), whole_subset=False),
    "mopoe": Fusion("mixture of the products of all subsets", "products", lambda m, _: subsets.powerset(m), "full"),
    "subset_networks": Fusion(
        "a network for every subset",
        "subsets",
        _only_row(lambda m: 2**m - 1),
        networks=_powerset_networks,
        available=_exact_subset,
    ),
    "joint_network": Fusion(
        "a network for everything, and one a modality",
        "joint",
        _only_row(lambda m: m + 1),
        networks=_with_joint_network(False),
        available=_joint_or_singles,
        min_modalities=2,
    ),
    "bridge": Fusion(
        "one dense layer on all modalities' codes",
        "joint",
        _only_row(lambda m: m + 1),
        networks=_with_joint_network(True),
        available=_joint_or_singles,
        min_modalities=2,
    ),
    "replacement_experts": Fusion(
        "product of experts, with stand-ins for what is missing",
        "replacements",
        _replacement_rows,
        whole_subset=False,
        networks=_replacement_networks,
        available=_replacements_for_missing,
        live=_replacement_rules,
        min_modalities=2,
    ),
}


def get_fusion(
    name: str,
    names: Sequence[str],
    chosen_subsets: str = "",
    prior_expert: PriorExpert | None = None,
    empty_subset: bool = False,
) -> Fusion:
    """The fusion called `name`, with the options of a mixture of products.

    Args:
      name: a key of `FUSIONS`.
      names: the modalities.
      chosen_subsets: rows in place of the fusion's own: `m0+m1,m2` (any list) or `random:k` (k fresh random subsets a
        step, for many modalities).
      prior_expert: in place of the fusion's own.
      empty_subset: add the row of the prior alone, as the paper's 1/2^M does; the released MoPoE code leaves it out,
        and so does the default here, because the published numbers come from that code.

    Raises:
      UserError: for an unknown fusion, modality or option value, or one that the fusion does not take.
    """
    check_choice(name, FUSIONS, "fusion")
    chosen = FUSIONS[name]
    if len(names) < chosen.min_modalities:
        raise UserError(f"fusion {name} with {len(names)} modality: it needs at least {chosen.min_modalities}; use poe")
    if prior_expert is not None:
        chosen = replace(chosen, prior_expert=prior_expert)
    if (chosen_subsets or empty_subset) and chosen.networks is not _one_each:
        option = f"subsets={chosen_subsets}" if chosen_subsets else "empty-subset"
        raise UserError(f"{option} with fusion {name}: it has rows of its own; use poe, moe or mopoe")
    if chosen_subsets:
        chosen = replace(chosen, rows=_chosen_rows(chosen_subsets, names), whole_subset=True, kind="products")
    if empty_subset:
        # Of the powerset, rows emptied by what is missing are the empty set: of n observed modalities one in 2^n.
        powerset = chosen_subsets.startswith("random:") or (not chosen_subsets and chosen.kind == "products")
        live = _all_live if powerset else chosen.live
        rows = chosen.rows
        chosen = replace(chosen, rows=lambda m, key: _with_empty_row(rows(m, key)), live=live, kind="products")
    return chosen


def _all_live(present: Bool[Array, "B M"]) -> Bool[Array, "1 B"]:
    return jnp.ones((1, len(present)), bool)


def _with_empty_row(rows: Rows) -> Bool[Array, "R N"]:
    return jnp.concatenate([jnp.asarray(rows), jnp.zeros((1, rows.shape[1]), bool)])


def _chosen_rows(text: str, names: Sequence[str]) -> Callable[[int, Key[Array, ""] | None], Rows]:
    if not text.startswith("random:"):
        masks = np.stack([subsets.select(part, names) for part in text.split(",")])
        return lambda m, _: masks
    count = text.removeprefix("random:")
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"subsets={text!r}: write random:k with a whole number k >= 1")

    def rows(m: int, key: Key[Array, ""] | None) -> Rows:
        return subsets.random(jax.random.key(0) if key is None else key, m, int(count))

    return rows
