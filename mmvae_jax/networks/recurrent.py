"""Recurrent networks of strings: a bidirectional encoder, a decoder of one symbol after another (Wu & Goodman 2018)."""

from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class RecurrentEncoder(nn.Module):
    """A bidirectional GRU over one-hot symbols; the last state of either direction.

    Attributes:
      categories: number of symbols; a negative index is padding and ends the string.
      hidden: units of each direction.
      embedding: dimension of learned vectors that are read in place of one-hot ones; 0: none. Of large vocabularies
        they are cheaper.
    """

    categories: int
    hidden: int = 200
    embedding: int = 0

    @nn.compact
    def __call__(self, x: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Features of every string."""
        there, back = (nn.RNN(nn.GRUCell(self.hidden)) for _ in range(2))
        lengths = jnp.maximum(jnp.sum(x >= 0, 1), 1)
        symbols = _vectors(x, self.categories, self.embedding)
        states, _ = nn.Bidirectional(there, back, return_carry=True)(symbols, seq_lengths=lengths)
        return jnp.concatenate(states, -1)


def _vectors(symbols: Int[Array, "*B"], categories: int, embedding: int) -> Float[Array, "*B E"]:
    """Of every symbol a learned vector, or a one-hot one; within a module. What padding reads does not count."""
    if embedding:
        return nn.Embed(categories, embedding)(jnp.maximum(symbols, 0))
    return nn.one_hot(symbols, categories)


class RecurrentDecoder(nn.Module):
    """GRUs that read z and the symbol before, from a start symbol on, and put out the logits of the next one.

    Which symbol is taken at a place, and read at the next one, is the largest of logits + push: with no push the most
    likely one (greedy decoding), with Gumbel noise a draw from the softmax (Maddison et al. 2014), with infinity at
    the symbols of a given string these (teacher forcing). For the likelihood `autoregressive`.

    Attributes:
      length: of the strings.
      categories: number of symbols; the last one ends a string.
      hidden: units of each layer.
      layers: of GRUs.
      embedding: as of `RecurrentEncoder`.
    """

    length: int
    categories: int
    hidden: int = 200
    layers: int = 2
    embedding: int = 0

    @nn.compact
    def __call__(self, z: Float[Array, "N D"], push: Float[Array, "N L C"] | None = None) -> Float[Array, "N L C"]:
        """Logits at every place, given the symbols that were taken before it."""
        if push is None:
            push = jnp.zeros((len(z), self.length, self.categories))
        states = tuple(nn.tanh(nn.Dense(self.hidden)(z)) for _ in range(self.layers))
        start = jnp.full(len(z), self.categories)
        return cast(
            "Array", nn.RNN(_Step(self.categories, self.hidden, self.embedding))(push, initial_carry=(z, states, start))
        )


class _Step(nn.RNNCellBase):
    """One symbol; carries z, the states of all layers and the symbol before."""

    categories: int
    hidden: int
    embedding: int

    @nn.compact
    def __call__(self, carry: tuple[Array, tuple[Array, ...], Array], push: Float[Array, "N C"]) -> tuple[Any, Array]:
        z, states, symbol = carry
        # One symbol more than can be put out: the start.
        h, after = jnp.concatenate([z, _vectors(symbol, self.categories + 1, self.embedding)], -1), []
        for state in states:
            state, h = nn.GRUCell(self.hidden)(state, h)
            after.append(state)
        logits = nn.Dense(self.categories)(h)
        return (z, tuple(after), jnp.argmax(logits + push, -1)), logits

    @property
    def num_feature_axes(self) -> int:
        return 1
