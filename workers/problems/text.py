"""Text as a data set: windows of characters, and the character that follows each.

`descriptions` is text from a package: scikit-learn's descriptions of its data sets (about 40 kB of
English; the files `sklearn/datasets/descr/*.rst`, in the order of their names). It is lower-cased and
runs of white space become one space, so that the alphabet is small. Its last fifth is held out as a
whole, and no window reaches across the cut.

`text_of_file` reads a user's text: a plain file, or JSON lines as the shards of OSCAR and other corpora are.
Its characters beyond the most frequent ones become `RARE`.
"""

import gzip
import importlib.util
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workers.problems.user_code import BadReference

HELD_OUT_SHARE = 0.2
CONTEXT = 32
"""Characters in a window by default: five or six words."""


CHARACTERS = 1_000_000
"""Characters that are read of a file by default. All windows of them take 256 MB with the default context."""

KINDS = 127
"""Different characters that are kept by default: as many as ASCII has. The others become `RARE`."""

RARE = "\ufffd"
"""The character that stands for all rare ones (U+FFFD, the replacement character)."""

FIELDS = ("text", "content", "raw_content")
"""Keys of a JSON line that may hold the text, in the order in which they are looked for: those of OSCAR 2019
and C4, of OSCAR 22.01 and 23.01, and of RedPajama."""


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


def text_of_file(file: Path, characters: int = CHARACTERS, kinds: int = KINDS) -> str:
    """The first `characters` characters of a file, lower-cased, runs of white space as one space.

    Args:
        file: UTF-8 text; with the suffix `.jsonl` or `.json` one JSON object for each line, whose text is
            under one of `FIELDS`; with a further suffix `.gz` compressed by gzip.
        characters: largest number of characters that are kept; the rest of the file is not read.
        kinds: largest number of different characters; all but the most frequent ones become `RARE`.

    Raises:
        BadReference: the file cannot be read, or a line has no text.
    """
    parts, length = list[str](), 0
    try:
        for part in _texts(file):
            words = " ".join(part.split()).lower()
            if words:
                parts.append(words)
                length += len(words) + 1
            if length > characters:
                break
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadReference(
            f"data.file is {file}, which cannot be read as text ({reason}): give the path of a UTF-8 text or "
            "JSON lines, absolute or relative to TOSCORE_DATA"
        ) from None
    return common_characters(" ".join(parts)[:characters], kinds)


def common_characters(text: str, kinds: int) -> str:
    """A text with all but its `kinds` most frequent characters replaced by `RARE`."""
    kept = {character for character, _ in Counter(text).most_common(kinds)}
    return "".join(character if character in kept else RARE for character in text)


def _texts(file: Path) -> Iterator[str]:
    """The lines of a file, or the texts of its JSON lines."""
    suffixes = file.suffixes
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as data:
        lines = io.TextIOWrapper(data, encoding="utf-8")
        if not {".jsonl", ".json"} & set(suffixes):
            yield from lines
            return
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _text_of_line(file, number, line)


def _text_of_line(file: Path, number: int, line: str) -> str:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise BadReference(
            f"data.file is {file}, whose line {number} is not JSON ({error}): give one JSON object for each "
            "line, or plain text in a file without the suffix .jsonl"
        ) from None
    texts = [values[key] for key in FIELDS if key in values] if isinstance(values, dict) else []
    if not texts or not isinstance(texts[0], str):
        raise BadReference(
            f"data.file is {file}, whose line {number} has no text under {', '.join(FIELDS)}"
        )
    return texts[0]


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
