"""The one exception for mistakes that a user can mend, and messages of others in one line."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A user's mistake, told in one line: what is wrong, the value, and the remedy.

    The experiment runner prints the message and exits with code 2; a library caller sees a ValueError.
    """


def one_line(error: Exception) -> str:
    """An error's message; long ones say in front what failed and at the end why."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 110 else f"{text[:40]} ... {text[-70:]}"


@contextmanager
def told(what: str) -> Iterator[None]:
    """Whatever is raised within, in one line that begins with what is wrong.

    Raises:
      UserError: in place of any other exception.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {one_line(error)}") from error


def check_choice(value: object, choices: Iterable[str], what: str) -> None:
    """Whether a value is one of those that may be chosen.

    Args:
      value: what was given.
      choices: names, such as the keys of a registry.
      what: that is chosen, for the message.

    Raises:
      UserError: if it is not.
    """
    choices = tuple(choices)
    if value not in choices:
        raise UserError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")
