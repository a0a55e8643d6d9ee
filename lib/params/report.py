"""`report`: the page."""

from lib.params.base import Section


class Report(Section):
    """Its title."""

    title: str
