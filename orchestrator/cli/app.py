"""The command line: its one application, and the options that several commands share."""

import importlib.metadata
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="toscore",
    help="Topological obstructions of a neural network's loss: barcodes of minima and TO-scores.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _standard_input(file: Path) -> Path:
    return Path("/dev/stdin") if str(file) == "-" else file


RunFileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A run file (YAML; - for standard input), or a study: a file or study:NAME.",
        callback=_standard_input,
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its folder or URL, or its run file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in paths.epochs=200."),
]
Address = Annotated[
    str | None, typer.Option(help="Address of a running Ray cluster, HOST:PORT or 'auto'.")
]
InProcess = Annotated[
    bool, typer.Option("--in-process", help="Use no Ray: one worker, in this process.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]
Log = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Append one JSON line for each event; '-' is standard error."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run the module:callable that the run's store names. Not needed where RUN is your run file.",
    ),
]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"toscore {importlib.metadata.version('toscore')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Topological obstructions of a neural network's loss: barcodes of minima and TO-scores."""


def look_for_modules(target: object) -> None:
    """Let `module:callable` name modules in the folder of the run file, else in the current folder."""
    from workers.problems.user_code import add_code_folder

    file = Path(str(target))
    if file.is_file():
        add_code_folder(file.resolve().parent)
    add_code_folder(Path.cwd())


def command_line(
    command: str,
    target: object,
    *,
    overrides: Sequence[str] | None = None,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
    log: str | None = None,
    trust_code: bool = False,
) -> str:
    """The command with its options, quoted for a shell."""
    words = ["toscore", command, str(target)]
    for override in overrides or ():
        words += ["--set", override]
    words += ["--address", address] if address else []
    words += ["--in-process"] if in_process else []
    words += ["--quiet"] if quiet else []
    words += ["--log", log] if log else []
    words += ["--trust-code"] if trust_code else []
    return shlex.join(words)
