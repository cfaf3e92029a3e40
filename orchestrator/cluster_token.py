"""The token of a Ray cluster of our own. Ray reads it once, when it is imported: set it before."""

import os
import secrets


def protect_own_cluster() -> None:
    """Give the cluster that this process will start a token that only its children know.

    Ray's ports listen on every interface even when told otherwise; the token keeps everybody else of
    the network and of the machine out. It lives in the environment and is not written to disk. What
    the user has set is left as it is.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
