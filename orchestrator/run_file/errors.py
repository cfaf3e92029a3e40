"""Errors that a user can correct."""


class UserError(Exception):
    """One sentence that names what is wrong and what to do; the command exits with code 2."""


class BadRunFile(UserError):
    """One sentence that names the key, the value, what is allowed, and what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence if sentence.endswith((".", "?")) else f"{sentence}.")
