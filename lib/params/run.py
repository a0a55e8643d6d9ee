"""`run`: what changes the bits of every stage."""

from pydantic import Field

from .section import Count, Section


class Run(Section):
    """Seed and threads; both change bits, so both are parameters."""

    seed: int = Field(ge=0, lt=2**31)
    threads: Count = Field(le=1024)
