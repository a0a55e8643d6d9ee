"""The entries of `zoo.models` in params.yaml: what may run when their networks are opened.

That changes no bits, so that stages which open a network do not depend on it.
"""

from .base import read
from .zoo import Zoo, ZooModel


def entry(name: str) -> dict[str, ZooModel]:
    """The entry of one network, by its name."""
    return {name: read(f"zoo.models.{name}", ZooModel)}


def entries() -> dict[str, ZooModel]:
    """The entries of all networks, likewise."""
    return read("zoo", Zoo).models
