"""The token of a Ray cluster. Ray reads it once, when it is imported: set it before."""

import os
import secrets
from pathlib import Path

HOW_TO_SET = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file of mode 600) as on "
    "the head node"
)


def protect_own_cluster() -> None:
    """Give the cluster that this process will start a token that only its children know.

    Ray's ports listen on every interface whatever its options say; the token keeps other users of the
    network and of the machine out. It lives in the environment and is not written to disk. Variables that
    the user has set are left as they are.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def present_own_token() -> None:
    """Send the user's token to the cluster that is about to be used.

    Without a mode Ray would not send it, and a user who has set a token means it to be sent.
    """
    named = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
