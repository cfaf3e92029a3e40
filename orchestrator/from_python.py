"""Runs from a Python program or a notebook: `run(network, data, loss=…)`, and figures of them.

    from orchestrator import run

    result = run(lambda: Net(), (x, y, x_test, y_test), name="mine", minima={"count": 6})
    result.to_score()
    result.plot_barcode()

The code of the functions and the contents of the data are part of the keys of results. So the same call again
continues the run, and results of a changed network are not confused with earlier ones. Everything runs in
this process. To use a cluster, write a run file that names the network as `module:callable`.
"""

import hashlib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from orchestrator.endings import ExecutedRun
from orchestrator.launch import LaunchOptions, execute
from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.run_file.extras import missing_extra
from orchestrator.run_file.locations import resolved
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import load, parse
from orchestrator.runs.api import LoadedRun
from orchestrator.runs.stored_run import open_run
from orchestrator.scheduling.outcome import Ending
from topo_core.homology.barcodes import BarcodeMethod
from workers.problems.user_code import BadReference, register_callable, source_fingerprint
from workers.problems.user_data import user_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Network = Callable[..., nn.Module] | str | Mapping[str, Any]
Data = Any
Loss = Callable[..., torch.Tensor] | str | Mapping[str, Any]


class Run(LoadedRun):
    """The results of a run, with figures. Each figure is drawn into the given Matplotlib axes, or into new
    ones."""

    def plot_barcode(self, method: BarcodeMethod = "elder", ax: "Axes | None" = None) -> "Axes":
        """Plot the bars of index 0 over the loss, with the bar of the lowest minimum at the top."""
        axes: Axes = _plots().plot_barcode(self, method, ax)
        return axes

    def plot_diagram(self, method: BarcodeMethod = "elder", ax: "Axes | None" = None) -> "Axes":
        """Plot the persistence diagram: a point for each finite bar, birth horizontally and death
        vertically."""
        axes: Axes = _plots().plot_diagram(self, method, ax)
        return axes

    def plot_path(self, i: int, j: int, ax: "Axes | None" = None) -> "Axes":
        """Plot the loss along the path between the minima `i` and `j`, over the fraction of its arc length.

        Raises:
            UserError: there is no such path.
        """
        axes: Axes = _plots().plot_path(self, i, j, ax)
        return axes


def _plots() -> ModuleType:
    """The module of figures, imported on first use because Matplotlib takes a second to import.

    Raises:
        UserError: Matplotlib is not installed.
    """
    try:
        from orchestrator.report import plots
    except ModuleNotFoundError as error:
        if (sentence := missing_extra(error, "A plot")) is None:
            raise
        raise UserError(sentence) from None
    return plots


def run(
    network: Network | str | Path,
    data: Data | None = None,
    *,
    loss: Loss | None = None,
    name: str | None = None,
    store: str = "runs",
    progress: bool = True,
    retry: bool = False,
    **keys: Any,
) -> Run:
    """Execute a run in this process, or continue it.

    Args:
        network: a function that builds a network with random weights; it takes no arguments, or any of
            `input_shape`, `outputs` and `classes`. Or the value of `network:` in a run file. If no other
            argument is given: the name of a run file.
        data: training inputs and targets, test inputs and targets: tensors, arrays, data sets, or anything
            else that a `load()` may return. Or the value of `data:` in a run file: a name, or a mapping with
            the key `name`, whose value may be the data themselves, as in `{"name": (x, y), "labels": "map"}`.
        loss: a function of outputs and targets that returns one value for each example. Or the value of
            `loss:` in a run file. Cross entropy by default.
        name: of the run, which is stored at STORE/NAME.
        store: a folder or URL.
        progress: print the progress of the run.
        retry: run the tasks again that failed before.
        keys: other groups of a run file, as in `minima={"count": 6}, paths={"epochs": 50}`.

    Returns:
        The results. If tasks have failed, a warning says so.

    Raises:
        BadRunFile: an argument is not possible; nothing has been written.
        UserError: the run had to stop before its end.
        KeyboardInterrupt: Ctrl-C; the same call continues the run.
    """
    asked = _run_file(network, data, loss, name, store, keys)
    ended = execute(asked, LaunchOptions(in_process=True, quiet=not progress, retry=retry))
    if ended.outcome.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    if ended.outcome.reason:
        raise UserError(ended.outcome.reason)
    return _loaded(ended, asked)


def load_run(run: str, *, trust_code: bool = False) -> Run:
    """The results of a run that was started before; arguments and errors as
    `orchestrator.runs.api.load_run`."""
    started = open_run(str(run), trust_code=trust_code)
    return Run(started, started.landscape())


def _loaded(ended: ExecutedRun, asked: RunFile) -> Run:
    started = open_run(ended.location, own=asked)
    result = Run(started, started.landscape())
    if failures := result.landscape.failures:
        first = failures[0]
        warnings.warn(
            f"{len(failures)} tasks of {result.name} failed, first {first.what}: {first.reason}; "
            "run(…, retry=True) runs them again",
            stacklevel=3,
        )
    return result


def _run_file(
    network: Any, data: Any, loss: Any, name: str | None, store: str, keys: Mapping[str, Any]
) -> RunFile:
    if data is None:
        if loss is not None or name is not None or keys:
            raise BadRunFile("data is missing: give run(network, data, …), or a run file alone")
        return load(network)
    if name is None:
        raise BadRunFile("name is missing: the run is kept at STORE/NAME")
    values: dict[str, Any] = {**keys, "name": name, "store": str(store)}
    values["network"] = network if isinstance(network, str | Mapping) else _given_network(network)
    if isinstance(data, Mapping) and "name" in data:
        own = data["name"]
        values["data"] = {**data, "name": own if isinstance(own, str) else _given_data(own)}
    else:
        values["data"] = data if isinstance(data, str) else _given_data(data)
    if loss is not None:
        values["loss"] = (
            loss if isinstance(loss, str | Mapping) else register_callable(loss, _code_of(loss))
        )
    return parse(resolved(_plain(values), Path.cwd()))


def _plain(value: Any) -> Any:
    """A copy of nested values in which tuples are lists, as after reading YAML."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _given_data(data: Any) -> str:
    """A reference to data given by the user; it contains a hash of their contents, as keys of results
    need."""
    try:
        parts = user_data("given", data)
    except BadReference as error:
        try:
            parts = user_data("given", data, map_labels=True)
        except BadReference:
            raise BadRunFile(str(error)) from None
    tensors = (parts.train_inputs, parts.train_targets, parts.test_inputs, parts.test_targets)
    return register_callable(lambda: data, f"{parts.layout} {' '.join(map(_contents, tensors))}")


def _contents(tensor: torch.Tensor) -> str:
    text = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    return hashlib.sha256(text + tensor.contiguous().numpy().tobytes()).hexdigest()


def _given_network(network: Any) -> str:
    if isinstance(network, nn.Module):
        raise BadRunFile(
            f"network is a {type(network).__name__} that is built already: give a function that builds it, "
            "as in lambda: Net(), so that every minimum starts from weights of its own"
        )
    if not callable(network):
        raise BadRunFile(f"network is a {type(network).__name__}: give a function that builds it")
    return register_callable(network, _code_of(network))


def _code_of(function: Any) -> str:
    """Text that identifies a function: its source, bound arguments, and the globals and closure values it
    reads."""
    parts = [_source(function)]
    inner = inspect.unwrap(getattr(function, "func", function))
    for value in (*getattr(function, "args", ()), *getattr(function, "keywords", {}).values()):
        parts.append(repr(value))
    module = getattr(inner, "__module__", None)
    if module in sys.modules and module != "__main__":
        # For a function of an imported file: the source of the whole file and of its imports.
        parts.append(source_fingerprint(f"{module}:{inner!r}"))
    if inspect.isfunction(inner):
        captured = inspect.getclosurevars(inner)
        for name, value in sorted({**captured.globals, **captured.nonlocals}.items()):
            code = inspect.isclass(value) or inspect.isfunction(value)
            parts.append(f"{name} {_source(value) if code else _value(value)}")
    return "\0".join(parts)


def _value(value: Any) -> str:
    if inspect.ismodule(value):
        return str(getattr(value, "__version__", value.__name__))
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()
    return repr(value)


def _source(value: Any) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        code = getattr(value, "__code__", None)
        return f"{code.co_code.hex()} {code.co_consts}" if code else repr(value)
