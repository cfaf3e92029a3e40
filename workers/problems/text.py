"""Text as a data set: windows of characters, and the character that follows each.

`descriptions` is text from a package: scikit-learn's descriptions of its data sets (about 40 kB of
English; the files `sklearn/datasets/descr/*.rst`, in the order of their names). It is lower-cased and
runs of white space become one space, so that the alphabet is small. Its last fifth is held out as a
whole, and no window reaches across the cut.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workers.problems.user_code import BadReference

HELD_OUT_SHARE = 0.2
CONTEXT = 32
"""Characters in a window by default: five or six words."""


@dataclass(frozen=True)
class Windows:
    """Windows of a text and their targets.

    Attributes:
        tokens: int64 [n, context].
        following: the token after each window, int64 [n]; or after each token of it, int64 [n, context].
    """

    tokens: Tensor
    following: Tensor


def descriptions() -> str:
    """The text, as described above.

    Raises:
        BadReference: scikit-learn, or its files, are missing.
    """
    spec = importlib.util.find_spec("sklearn")
    folder = Path(spec.origin).parent / "datasets" / "descr" if spec and spec.origin else None
    files = sorted(folder.glob("*.rst")) if folder else []
    if not files:
        raise BadReference(
            "data.name text needs a text that is shipped by scikit-learn: pip install 'toscore[demo]'"
        )
    return " ".join(" ".join(file.read_text("utf-8").split()) for file in files).lower()


def alphabet(text: str) -> str:
    """The different characters of a text in order; a token is an index into them."""
    return "".join(sorted(set(text)))


def windows(text: str, context: int, *, every_token: bool = False) -> tuple[Windows, Windows]:
    """Every window of the first four fifths of a text, and every window of the rest.

    Args:
        text: to be cut into windows.
        context: characters in a window.
        every_token: whether each character of a window has the one after it as its target; otherwise the
            window has one target, the character after it.

    Raises:
        BadReference: the windows are longer than the text.
    """
    index_of = {character: index for index, character in enumerate(alphabet(text))}
    tokens = torch.tensor([index_of[character] for character in text])
    cut = round(len(tokens) * (1 - HELD_OUT_SHARE))
    longest = min(cut, len(tokens) - cut) - 1
    if not 1 <= context <= longest:
        raise BadReference(
            f"data.context is {context}; it must be a number of characters, 1 to {longest}"
        )
    train, test = (_windows(part, context, every_token) for part in (tokens[:cut], tokens[cut:]))
    return train, test


def _windows(tokens: Tensor, context: int, every_token: bool) -> Windows:
    inputs = tokens[:-1].unfold(0, context, 1).contiguous()
    if every_token:
        return Windows(inputs, tokens[1:].unfold(0, context, 1).contiguous())
    return Windows(inputs, tokens[context:].clone())
