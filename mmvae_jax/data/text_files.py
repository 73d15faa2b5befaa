"""Text files of data sets."""

from pathlib import Path

from mmvae_jax.errors import UserError


def read_text(path: Path) -> str:
    """The text of a file, UTF-8 whatever the locale.

    Raises:
      UserError: missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): put it there") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as such") from error
