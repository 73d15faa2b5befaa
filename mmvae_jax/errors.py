"""The one exception for mistakes that a user can mend."""


class UserError(ValueError):
    """A user's mistake, told in one line: what is wrong, the value, and the remedy.

    The experiment runner prints the message and exits with code 2; a library caller sees a ValueError.
    """
