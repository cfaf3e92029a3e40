"""Errors that a user can correct."""


class UserError(Exception):
    """An error with a message of one sentence: what is wrong and what to do. The command exits with code
    2."""


class TryAgain(UserError):
    """An error that may be gone when the same command is started again. The command exits with code 75."""


class BadRunFile(UserError):
    """An error in a run file. The message is one sentence: the key, its value, what is allowed, and what to
    do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence if sentence.endswith((".", "?")) else f"{sentence}.")
