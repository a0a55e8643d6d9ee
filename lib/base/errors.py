"""The one exception that speaks to the user."""


class BrickyardError(Exception):
    """Input that its user can mend: one line that names the key, file or model and says what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
