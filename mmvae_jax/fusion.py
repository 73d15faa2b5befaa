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
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from mmvae_jax import gaussian, subsets
from mmvae_jax.errors import UserError
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace
from mmvae_jax.mixture import Mixture, Posterior

PriorExpert = Literal["none", "full", "all", "quotient"]
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
      rows: (M, key) -> mask matrix [S, N] over the N networks; the key serves random rows only.
      prior_expert: where p(z) joins a product: `none`; `all` rows (MVAE's universal expert); `full` rows only, those
        that cover everything observed (the released MoPoE code, whose published numbers come from it); `quotient`, with
        power 1 - N for N experts, dividing out the prior that each expert already contains.
      whole_subset: given a subset A, whether to infer from the one product over A (MoPoE's q(z|X_A), Eq. 4) rather than
        from the rows within A (MoE: the mixture of A's experts).
      networks: modality names -> inference networks.
      available: presence [B, M] -> which networks may be used [B, N].
      live: presence [B, M] -> which rows may be used [S, B]; default those with an available expert.
    """

    rows: Callable[[int, Array | None], Rows]
    prior_expert: PriorExpert = "none"
    whole_subset: bool = True
    networks: Callable[[Sequence[str]], tuple[Network, ...]] = _one_each
    available: Callable[[Bool[Array, "B M"]], Bool[Array, "B N"]] = lambda present: present
    live: Callable[[Bool[Array, "B M"]], Bool[Array, "S B"]] | None = None

    def joint(
        self, experts: Posterior, present: Bool[Array, "B M"], prior: Posterior, key: Array | None = None
    ) -> Mixture:
        """The posterior given everything observed, that training integrates over."""
        rows = self.rows(present.shape[1], key)
        live = None if self.live is None else self.live(present)
        return fuse(experts, rows, self.available(present), prior, self.prior_expert, live=live)

    def given(
        self,
        experts: Posterior,
        present: Bool[Array, "B M"],
        subset: Bool[Array, "M"] | Bool[np.ndarray, "M"],
        prior: Posterior,
    ) -> Mixture:
        """The posterior given the modalities of `subset` that are observed. `vmap` over subsets is supported."""
        within = present & subset
        available = self.available(within)
        rows = self._rows_given(present.shape[1], available.shape[1])
        live = None if self.live is None else self.live(within)
        covers = jnp.all(within == present, -1)
        return fuse(experts, rows, available, prior, self.prior_expert, live=live, covers=covers)

    def _rows_given(self, m: int, n: int) -> Rows:
        return np.ones((1, n), bool) if self.whole_subset else self.rows(m, None)


def fuse(
    experts: Posterior,
    rows: Rows,
    available: Bool[Array, "B N"],
    prior: Posterior,
    prior_expert: PriorExpert = "none",
    live: Bool[Array, "S B"] | None = None,
    covers: Bool[Array, "B"] | None = None,
) -> Mixture:
    """The mixture of products of experts under a mask matrix (Sutter et al. 2021, Definition 1).

    Args:
      experts: leaves [N, B, D].
      rows: mask matrix [S, N].
      available: [B, N]; unavailable experts contribute nothing, neither to values nor to gradients.
      prior: p(z), leaves [D].
      prior_expert: see `Fusion`.
      live: rows that may be used, [S, B]; default those with an available expert. A row written empty in `rows` is the
        prior itself and always live; so are all rows where nothing at all is available.
      covers: [B], with `prior_expert="full"`: whether everything that counts as observed is available here.

    Returns:
      Mixture with leaves [S, B, ...].
    """
    rows = jnp.asarray(rows)
    used = rows[:, None, :] & available
    count = jnp.sum(used, -1)
    if live is None:
        live = (count > 0) | ~jnp.any(rows, -1, keepdims=True)
    live |= ~jnp.any(live, axis=0)
    log_weights = jax.nn.log_softmax(jnp.where(live, 0.0, -jnp.inf), axis=0)
    if isinstance(experts, Laplace):
        return Mixture(log_weights, _single_experts(experts, rows, count > 0, prior))
    whole = jnp.all(used == available, -1) & (True if covers is None else covers)
    powers = {
        "none": jnp.zeros(count.shape),
        "all": jnp.ones(count.shape),
        "full": whole.astype(float),
        "quotient": 1.0 - count,
    }
    power = jnp.where(count == 0, 1.0, powers[prior_expert])
    known = gaussian.only_where(cast(Gaussian, experts), available.T)
    products = jax.vmap(gaussian.product, (None, 0, None, 0))(known, rows, cast(Gaussian, prior), power)
    return Mixture(log_weights, products)


def _single_experts(experts: Laplace, rows: Array, known: Bool[Array, "S B"], prior: Posterior) -> Posterior:
    """Rows of one expert each, of densities that have no closed-form product."""
    chosen = jax.tree.map(lambda leaf: leaf[jnp.argmax(rows, -1)], experts)
    return jax.tree.map(lambda leaf, default: jnp.where(known[..., None], leaf, default), chosen, prior)


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
    if m < 2:
        raise UserError(f"svae with {m} modality: its replacement experts need at least two; use poe")
    replacements = tuple(Network(f"{names[j]}->{names[i]}", (j,)) for i, j in _ordered_pairs(m))
    return (*_one_each(names), *replacements)


def _replacement_rows(m: int, _: Array | None) -> Rows:
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


FUSIONS: dict[str, Fusion] = {
    "poe": Fusion(lambda m, _: subsets.full(m), "all"),
    "poe_quotient": Fusion(lambda m, _: subsets.full(m), "quotient"),
    "moe": Fusion(lambda m, _: subsets.singletons(m), "none", whole_subset=False),
    "mopoe": Fusion(lambda m, _: subsets.powerset(m), "full"),
    "subset_networks": Fusion(
        lambda m, _: np.ones((1, 2**m - 1), bool), networks=_powerset_networks, available=_exact_subset
    ),
    "joint_network": Fusion(
        lambda m, _: np.ones((1, m + 1), bool), networks=_with_joint_network(False), available=_joint_or_singles
    ),
    "bridge": Fusion(
        lambda m, _: np.ones((1, m + 1), bool), networks=_with_joint_network(True), available=_joint_or_singles
    ),
    "replacement_experts": Fusion(
        _replacement_rows,
        whole_subset=False,
        networks=_replacement_networks,
        available=_replacements_for_missing,
        live=_replacement_rules,
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
      UserError: for an unknown fusion, modality or option value.
    """
    if name not in FUSIONS:
        raise UserError(f"unknown fusion {name!r}: choose one of {', '.join(FUSIONS)}")
    chosen = FUSIONS[name]
    if prior_expert is not None:
        chosen = replace(chosen, prior_expert=prior_expert)
    if chosen_subsets:
        chosen = replace(chosen, rows=_chosen_rows(chosen_subsets, names), whole_subset=True)
    if empty_subset:
        rows = chosen.rows
        chosen = replace(chosen, rows=lambda m, key: _with_empty_row(rows(m, key)))
    return chosen


def _with_empty_row(rows: Rows) -> Rows:
    return jnp.concatenate([jnp.asarray(rows), jnp.zeros((1, rows.shape[1]), bool)])


def _chosen_rows(text: str, names: Sequence[str]) -> Callable[[int, Array | None], Rows]:
    if not text.startswith("random:"):
        masks = np.stack([subsets.parse(part, names) for part in text.split(",")])
        return lambda m, _: masks
    count = text.removeprefix("random:")
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"subsets={text!r}: write random:k with a whole number k >= 1")

    def rows(m: int, key: Array | None) -> Rows:
        return subsets.random(jax.random.key(0) if key is None else key, m, int(count))

    return rows
