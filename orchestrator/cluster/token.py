"""Sets the token of a Ray cluster. Ray reads it once, at import: call these functions before that."""

import os
import secrets
from pathlib import Path

HOW_TO_SET = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file of mode 600) as on "
    "the head node"
)


def protect_own_cluster() -> None:
    """Set a random token for the cluster that this process will start.

    Ray's ports listen on every network interface, whatever its options say. The token keeps out other users
    of the network and of the machine. It is stored in the environment, where only child processes see it, and
    not on disk. Variables that the user has set are not changed.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def present_own_token() -> None:
    """Make Ray send the user's token to the cluster, if the user has set one.

    Ray sends a token only if `RAY_AUTH_MODE` is set, and users may set the token alone.
    """
    named = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
