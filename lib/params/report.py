"""`report`: the page."""

from .section import Section, Text


class Report(Section):
    """Section `report`: the title of the page."""

    title: Text
