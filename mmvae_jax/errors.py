"""The one exception for mistakes that a user can mend, and messages of others in one line."""


class UserError(ValueError):
    """A user's mistake, told in one line: what is wrong, the value, and the remedy.

    The experiment runner prints the message and exits with code 2; a library caller sees a ValueError.
    """


def one_line(error: Exception) -> str:
    """An error's message; long ones say in front what failed and at the end why."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 110 else f"{text[:40]} ... {text[-70:]}"
