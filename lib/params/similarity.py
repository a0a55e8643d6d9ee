"""`similarity`: how two activation matrices are compared."""

from typing import Literal

from lib.params.base import Section


class Similarity(Section):
    """The similarity index s(X, X')."""

    index: Literal["cka"]
