"""Read weights from files in common formats. The format is recognised from the contents of a file.

Pickles are read with `torch.load(weights_only=True)`, which permits harmless types only. A few types are
added that training code often saves with the weights: `argparse.Namespace`, paths and numpy scalars.
"""

import argparse
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workers.problems.shards import files_of
from workers.problems.user_code import BadReference, first_line

ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "params",
    "weights",
    "ema_state_dict",
    "model_ema",
    "ema",
)
"""Names under which training code saves the state dict; the first that exists is used."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "_forward_module.")
"""Prefixes that DataParallel, torch.compile and training frameworks add to the names of parameters."""

_NOT_WEIGHTS = (
    (b"version https://git-lfs", "is a git-LFS pointer and no weights: run `git lfs pull`"),
    (b"<!doctype", "is an HTML page: the download went wrong, fetch the file itself"),
    (b"<html", "is an HTML page: the download went wrong, fetch the file itself"),
    (b"{", "is JSON and no weights: name the .safetensors or .pt file that lies beside it"),
    (b"\x93numpy", "is a numpy array: save a state dict with torch.save or safetensors"),
    (b"<?xml", "is an XML page: the download went wrong, fetch the file itself"),
    (b"gguf", "is in the GGUF format: convert it to safetensors"),
    (b"\x89hdf", "is an HDF5 file: save a state dict with torch.save or safetensors"),
    (b"\x1f\x8b", "is compressed: unpack it with gunzip"),
)

_OTHERS = ("optim", "sched", "scaler", "rng")
"""Parts of the names of entries that hold no weights."""

_DEPTH = 4
"""Largest number of entries within entries that are looked into."""

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file.

    Attributes:
        state: tensors by name.
        notes: what was chosen or changed while reading; each is a clause that follows the name of the file.
    """

    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def read_checkpoint(location: str, module: nn.Module) -> Checkpoint:
    """Read the weights in a file for a network.

    A prefix is removed if all names have it and no name of the network does, and if it is a known one, or the
    rest of a name is a name of the network. Half-precision tensors are converted to the dtype of the network.

    Args:
        location: of a `.safetensors` file, an index of shards, or a file that `torch.save` wrote.
        module: the network.

    Raises:
        BadReference: the file holds no state dict; the sentence says what it holds.
    """
    whole = read_state_dict(location)
    wanted = module.state_dict()
    state, notes = dict(whole.state), list(whole.notes)
    while prefix := _common_prefix(state, wanted):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        notes.append(f"the prefix {prefix} of all names is left out")
    if prefix := _unknown_prefix(state, wanted):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        notes.append(f"the prefix {prefix} of all names is left out")
    if not set(state) & set(wanted) and any("lora_" in name for name in state):
        raise BadReference(
            f"minima.from names {location}, which holds LoRA layers alone: merge them into the network "
            "and save its state dict"
        )
    converted = set()
    for name, value in state.items():
        own = wanted.get(name)
        if isinstance(own, Tensor) and value.dtype in _HALF and own.dtype not in _HALF:
            state[name] = value.to(own.dtype)
            converted.add(f"{value.dtype} is read as {own.dtype}".replace("torch.", ""))
    return Checkpoint(state, (*notes, *sorted(converted)))


def read_state_dict(location: str) -> Checkpoint:
    """Read the state dict in a file, without a change of names.

    Raises:
        BadReference: there is none; the sentence says what the file holds.
    """
    state: dict[str, Tensor] = {}
    notes: tuple[str, ...] = ()
    for file in files_of(location):
        part = _read_file(location, file)
        state |= {name: _dense(location, name, value) for name, value in part.state.items()}
        notes = part.notes
    return Checkpoint(state, notes)


def _dense(location: str, name: str, value: Tensor) -> Tensor:
    """A tensor of a checkpoint in dense layout.

    Raises:
        BadReference: it is on the device `meta`, so it has a shape but no values.
    """
    if value.is_meta:
        raise BadReference(
            f"minima.from names {location}, in which {name} has a shape and no numbers (device meta): save "
            "the network after its weights are loaded"
        )
    return value if value.layout is torch.strided else value.to_dense()


def _read_file(location: str, file: Path) -> Checkpoint:
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        named = location if file == Path(location) else f"{location} with the shard {file.name}"
        raise BadReference(
            f"minima.from names {named}, which cannot be read ({error.strerror or error})"
        ) from None
    if not head:
        raise BadReference(f"minima.from names {location}, which is empty")
    if file.name in ("min.data", "ts.data"):
        raise BadReference(
            f"minima.from names {location}, which holds energies without points: read its barcode with "
            "orchestrator.read_pathsample, and name files of weights here"
        )
    if head[8:9] == b"{":  # safetensors: 8 bytes with the length of a JSON header, then the header
        return Checkpoint(_safetensors(location, file))
    for start, says in _NOT_WEIGHTS:
        if head.lstrip().lower().startswith(start):
            raise BadReference(f"minima.from names {location}, which {says}")
    if zipfile.is_zipfile(file):
        _check_archive(location, file)
    return _chosen(location, _unpickled(location, file))


def _safetensors(location: str, file: Path) -> dict[str, Tensor]:
    # Imported here, so that a run without checkpoints, such as the GPU benchmark, needs only torch.
    import safetensors.torch

    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable(location, error) from None
    return state


def _check_archive(location: str, file: Path) -> None:
    try:
        names = zipfile.ZipFile(file).namelist()
    except zipfile.BadZipFile as error:
        raise _unreadable(location, error) from None
    if not any(name.endswith(("/data.pkl", ".npy")) or "/code/" in name for name in names):
        raise BadReference(
            f"minima.from names {location}, which is a zip archive without weights: unpack it and name the "
            "file of weights in it"
        )
    if any(name.endswith(".npy") for name in names):
        raise BadReference(
            f"minima.from names {location}, which is a numpy archive: save a state dict with torch.save "
            "or safetensors"
        )
    if any("/code/" in name for name in names):
        raise BadReference(
            f"minima.from names {location}, which is a TorchScript program: save its state_dict() alone"
        )


def _unpickled(location: str, file: Path) -> Any:
    scalar = np.float64(0).__reduce__()[0]
    harmless: list[Any] = [argparse.Namespace, pathlib.PosixPath, scalar, np.dtype]
    harmless += [type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "?")]
    harmless += [np.ndarray, np.empty(0).__reduce__()[0]]
    try:
        # A stream: by its name, a file called .safetensors would be taken for one.
        with torch.serialization.safe_globals(harmless), file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError) as error:
        raise _unreadable(location, error) from None
    except Exception as error:  # torch refuses to unpickle types that are not in the list
        refused = re.search(
            r"(?:GLOBAL|Unsupported class|Trying to (?:call|load)\S*) (\S+\.\S+)", str(error)
        )
        if refused is None:
            raise BadReference(
                f"minima.from names {location}, which is no checkpoint that torch.save or safetensors wrote: "
                "name a file of weights"
            ) from None
        raise BadReference(
            f"minima.from names {location}, which holds more than weights ({refused[1].rstrip('.,')}): save "
            "the state_dict() alone"
        ) from None


def _unreadable(location: str, error: Exception) -> BadReference:
    reason = first_line(error)
    return BadReference(
        f"minima.from names {location}, which is not a readable checkpoint: {reason}"
    )


def _chosen(location: str, loaded: Any) -> Checkpoint:
    """The state dict in a loaded object: the object itself, or an entry with a name in `ENTRIES`, or, if
    there is none, the first entry that is one."""
    candidates = list(_state_dicts(loaded))
    if not candidates:
        held = f"the keys {', '.join(map(str, list(loaded)[:8]))}" if _is_group(loaded) else None
        raise BadReference(
            f"minima.from names {location}, which is no state dict but holds "
            f"{held or type(loaded).__name__}: save one"
        )
    (name, chosen), *others = candidates
    if not others:
        return chosen
    also = ", ".join(other for other, _ in others)
    return replace(chosen, notes=(f"{name} is taken, and not {also}, which it has as well",))


def _state_dicts(loaded: Any, depth: int = _DEPTH) -> Iterator[tuple[str, Checkpoint]]:
    if not _is_group(loaded):
        return
    tensors = {str(k): _tensor(v) for k, v in loaded.items() if _is_numbers(v)}
    if tensors and len(tensors) == len(loaded):
        yield "", Checkpoint(tensors)
        return
    known = [name for name in ENTRIES if _is_group(loaded.get(name))]
    rest = [k for k in loaded if isinstance(k, str) and not any(o in k.lower() for o in _OTHERS)]
    for name in known or (rest if depth else ()):
        for deeper, checkpoint in _state_dicts(loaded[name], depth - 1):
            yield (f"{name}.{deeper}" if deeper else name), checkpoint


def _is_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    )


def _tensor(value: Tensor | np.ndarray[Any, Any]) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _is_group(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0


def _common_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> str:
    """A prefix in `PREFIXES` that all names of a state have and no name of the network has; empty if none."""
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return "" if any(name.startswith(prefix) for name in wanted) else prefix
    return ""


def _unknown_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> str:
    """The shortest dotted prefix that all names of a state have, and whose removal gives a name of the
    network; empty if there is none, or if a name of the network has it."""
    first = next(iter(state), "")
    for end in (index + 1 for index, letter in enumerate(first) if letter == "."):
        prefix = first[:end]
        if not all(name.startswith(prefix) for name in state):
            return ""
        if any(name.removeprefix(prefix) in wanted for name in state):
            return "" if any(name.startswith(prefix) for name in wanted) else prefix
    return ""
