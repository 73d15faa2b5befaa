"""Convolutions over the words of sentences, each a row of a picture: Table F.5 of the SVAE paper (2021)."""

import flax.linen as nn
from jaxtyping import Array, Float, Int

from mmvae_jax.errors import UserError
from mmvae_jax.networks.layers import Conv, ConvTranspose, images, normalised, planes

# Of 4x4 convolutions, which halve sentences and embeddings; all others halve embeddings alone.
_SQUARE = 3
_HALVING = {True: (4, 2, 1), False: ((1, 4), (1, 2), (0, 1))}


class SentenceEncoder(nn.Module):
    """Embeddings of words as the rows of a picture, convolutions of stride 2, normalised, and the map that they leave.

    Heads on the map are the table's last convolutions, over all that is left. Where the table normalises over the batch
    groups of channels of one sentence are normalised: a sentence's posterior depends on no other.

    Attributes:
      categories: words of the vocabulary.
      embedding: numbers of a word. The table says 256; its decoder ends in 32x128, though, and its encoder's last 4x4
        convolution covers the map with 128 only.
      widths: channels of the convolutions, multiples of 4: three 4x4, then 1x4.
    """

    categories: int
    embedding: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)

    @nn.compact
    def __call__(self, x: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Features of every sentence, L a multiple of 8."""
        h = planes(nn.Embed(self.categories, self.embedding)(x)[..., None])
        for i, width in enumerate(self.widths):
            h = normalised(Conv(width, *_HALVING[i < _SQUARE])(h))
        return images(h).reshape(len(x), -1)


class SentenceDecoder(nn.Module):
    """The encoder's layers in reverse, then logits of every word from its row.

    Attributes:
      length: of the sentences.
      categories: words of the vocabulary.
      embedding: numbers of a word.
      widths: channels of the convolutions, the encoder's read backwards.

    Raises:
      UserError: so many layers do not come out at the length and the embedding.
    """

    length: int
    categories: int
    embedding: int = 128
    widths: tuple[int, ...] = (512, 256, 128, 64, 32)

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N L C"]:
        """Logits at every position."""
        rows, columns = 2**_SQUARE, 2 ** len(self.widths)
        if self.length % rows or self.embedding % columns:
            raise UserError(
                f"captions of {self.length} words in {self.embedding} numbers: give multiples of {rows} and {columns}"
            )
        h = planes(z[:, None, None])
        h = nn.relu(ConvTranspose(self.widths[0], (self.length // rows, self.embedding // columns))(h))
        square = [len(self.widths) - i <= _SQUARE for i in range(len(self.widths))]
        for width, each in zip(self.widths[1:], square[:-1], strict=True):
            h = normalised(ConvTranspose(width, *_HALVING[each])(h))
        h = nn.relu(ConvTranspose(1, *_HALVING[square[-1]])(h))
        return nn.Dense(self.categories)(images(h)[..., 0])
