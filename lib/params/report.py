"""`report`: the page."""

from .section import Section, Text


class Report(Section):
    """Its title."""

    title: Text
