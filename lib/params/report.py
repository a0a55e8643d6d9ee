"""`report`: the page."""

from lib.params.section import Section, Text


class Report(Section):
    """Its title."""

    title: Text
