"""The checker of annotations under which the tests run: beartype, with an int where a float is asked for."""

from typing import Self

from beartype import BeartypeConf, FrozenDict, beartype

# jaxtyping decorates methods, not classes, and a method alone does not know what Self is.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: object})))
