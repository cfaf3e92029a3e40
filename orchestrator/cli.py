"""argv and stdout, nothing else: config → plan → train → optimise → store → reduce → report."""

import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from orchestrator.scheduling.exit_codes import ExitCode

app = typer.Typer(
    name="toscore",
    help="Topological obstructions of a neural network's loss: barcodes of minima and TO-scores.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


RunFileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A run file (YAML), or a study: a file or study:NAME."),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its folder or URL, or its run file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in paths.epochs=200."),
]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster, HOST:PORT or 'auto'.")]
InProcess = Annotated[
    bool, typer.Option("--in-process", help="No Ray: one worker, in this process.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")]
Log = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="One JSON line an event, appended; '-' is standard error."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def run(
    file: RunFileArgument,
    set_: Overrides = None,
    address: Address = None,
    in_process: InProcess = False,
    quiet: Quiet = False,
    log: Log = None,
) -> None:
    """Run a run file or a study, or go on where it stopped.

    Example: `toscore run examples/demo.yaml --set minima.count=8`
    """
    from orchestrator.launch import launch
    from orchestrator.run_file.reading import load
    from orchestrator.studies.study import is_study, load_study

    there = [f"--address {address}"] if address else []
    source = " ".join([str(file), *(f"--set {item}" for item in set_ or ()), *there])
    try:
        if is_study(file):
            from orchestrator.studies.run import run_study

            study = load_study(file, set_ or ())
            if log is not None:
                from orchestrator.run_file.errors import UserError

                raise UserError("--log is of a single run: a study is several.")
            code = run_study(
                study, source=source, address=address, in_process=in_process, quiet=quiet
            )
        else:
            settings = load(file, set_ or ())
            code = launch(
                settings,
                source=source,
                address=address,
                in_process=in_process,
                quiet=quiet,
                log=log,
            )
    except KeyboardInterrupt:  # before anything ran
        print(f"Interrupted. To go on: toscore run {source}", file=sys.stderr)
        code = ExitCode.INTERRUPTED
    raise typer.Exit(code)


@app.command()
def submit(
    file: RunFileArgument,
    address: Annotated[str, typer.Option(help="The head's dashboard, http://HOST:8265.")],
    set_: Overrides = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="A folder to send along: your code and checkpoints, and FILE in it."),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Use the cluster's own toscore; send no code.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
) -> None:
    """Run a run file on a cluster through Ray's Jobs API, or go on where it stopped.

    Example: `toscore submit mine.yaml --address http://head:8265 --working-dir .`
    """
    from orchestrator.cluster.token import present_own_token

    present_own_token()
    from orchestrator.submit import submit as submit_job

    code = submit_job(
        file,
        set_ or (),
        address=address,
        working_dir=working_dir,
        ship=not installed,
        detach=detach,
    )
    raise typer.Exit(code)


@app.command()
def stop(run: RunArgument) -> None:
    """Ask the driver of a run, on whatever machine, to finish what it is doing and leave.

    Example: `toscore stop s3://bucket/runs/demo`
    """
    from orchestrator.runs.stored_run import location_of
    from orchestrator.scheduling.stop_request import ask_to_stop
    from workers.storage.open_objects import open_objects

    holder = ask_to_stop(open_objects(location_of(run)))
    print(f"Asked {holder.described} to finish what runs and leave.", file=sys.stderr)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: in a command of two seconds it is a tenth of importing torch."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@app.command()
@_uncollected()
def plan(
    file: RunFileArgument,
    set_: Overrides = None,
    as_json: AsJson = False,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--no-sample",
            help="Time a short sample on this machine anew, or none; by default it is timed once and "
            "remembered.",
        ),
    ] = None,
) -> None:
    """What a run or a study would do and cost; nothing of it is run or written.

    Example: `toscore plan examples/demo.yaml --set minima.count=1000`
    """
    from orchestrator.planning.cost import estimate, estimate_view
    from orchestrator.run_file.reading import load
    from orchestrator.studies.study import is_study, load_study

    if is_study(file):
        from orchestrator.studies.run import plan_study, plan_view

        plans = plan_study(load_study(file, set_ or ()), sample=sample)
        if as_json:
            print(json.dumps([found.to_json() for found in plans], indent=2))
        else:
            Console().print(plan_view(plans))
        return
    cost = estimate(load(file, set_ or ()), sample=sample)
    if as_json:
        print(json.dumps(cost.to_json(), indent=2))
    else:
        Console().print(estimate_view(cost))


@app.command()
def status(run: RunArgument, as_json: AsJson = False) -> None:
    """What is done, what is left, what failed; reads the store only.

    Example: `toscore status runs/demo`
    """
    from orchestrator.runs.stored_run import open_run, status_json, status_view

    found = open_run(run)
    if as_json:
        print(json.dumps(status_json(found), indent=2))
    else:
        Console().print(status_view(found))


@app.command()
def retry(
    run: RunArgument,
    address: Address = None,
    in_process: InProcess = False,
    quiet: Quiet = False,
) -> None:
    """Forget the failures of a run and run those tasks again.

    Example: `toscore retry runs/demo`
    """
    from orchestrator.launch import launch
    from orchestrator.runs.stored_run import open_run

    found = open_run(run)
    raise typer.Exit(
        launch(
            found.plan.run,
            source=run,
            address=address,
            in_process=in_process,
            quiet=quiet,
            retry=True,
        )
    )


@app.command()
def verify(
    run: RunArgument,
    heights: Annotated[
        int, typer.Option(help="Heights to compute again from their points.", min=0)
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Check every object of a run against its digest, and some heights against their points.

    Example: `toscore verify runs/demo --heights 50`
    """
    from orchestrator.report.verification import verification_view
    from orchestrator.runs.stored_run import open_run
    from orchestrator.runs.verification import verify as verify_run

    found = verify_run(open_run(run), heights)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        Console().print(verification_view(found))
    raise typer.Exit(ExitCode.COMPLETE if found.sound else ExitCode.FAILED_TASKS)


@app.command()
def reduce(
    run: RunArgument,
    as_json: AsJson = False,
    verify: Annotated[
        bool,
        typer.Option("--verify-saddles", help="Climb to the passes that hold up bars; minutes."),
    ] = False,
) -> None:
    """The barcodes and TO-scores of what a run has so far.

    Example: `toscore reduce runs/demo --json`
    """
    from orchestrator.report.terminal import barcode_view
    from orchestrator.runs.stored_run import open_run

    started = open_run(run)
    landscape = started.landscape()
    saddles = []
    if verify:
        from orchestrator.runs.saddle_checks import saddles_view, verify_saddles

        saddles = list(verify_saddles(started, landscape))
    if as_json:
        checked = {"saddles": [one.to_json() for one in saddles]} if verify else {}
        print(json.dumps({**landscape.to_json(), **checked}, allow_nan=False))
    else:
        console = Console()
        console.print(barcode_view(landscape, console.width))
        if verify:
            console.print(saddles_view(saddles))


@app.command()
def report(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; the run's own by default.")
    ] = None,
) -> None:
    """Write a run as one HTML page, and its figures as PNG and PDF with their data beside them.

    Example: `toscore report runs/demo --out demo-report`
    """
    from orchestrator.report.write import write_report
    from orchestrator.runs.stored_run import folder_of, open_run

    found = open_run(run)
    written = write_report(found, out or folder_of(run))
    print(
        f"{written.page}\n{written.figures}{os.sep}  {written.count} figures: png, pdf, csv, json"
    )


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    out: Annotated[
        Path | None, typer.Option(help="Write compare.html and figures into this folder.")
    ] = None,
) -> None:
    """Several runs beside each other: barcodes, scores against size, distances.

    Example: `toscore compare runs/narrow runs/wide --out comparison`
    """
    from orchestrator.report.comparison.compared_runs import compared
    from orchestrator.report.comparison.page import comparison_view
    from orchestrator.report.write import write_comparison
    from orchestrator.runs.stored_run import open_run

    found = compared([open_run(run) for run in runs])
    Console().print(comparison_view(found))
    if out is not None:
        written = write_comparison(found, out)
        print(f"{written.page}\n{written.figures}{os.sep}  {written.count} figures")


@app.command()
def watch(
    run: RunArgument,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8787,
    host: Annotated[
        str, typer.Option(help="Address to serve at; this machine alone by default.")
    ] = ("127.0.0.1"),
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further host name by which browsers may ask for the page, as behind a proxy; "
            "repeatable.",
        ),
    ] = None,
) -> None:
    """Serve a page that shows a run while it goes; reads the store only. Ctrl-C ends it.

    Example: `toscore watch runs/demo --port 8787`
    """
    from orchestrator.dashboard.server import LOOPBACK, serve
    from orchestrator.runs.stored_run import open_run

    server = serve(open_run(run), host, port, allow_host or ())
    print(f"{server.url}  (Ctrl-C ends it)", flush=True)
    if host not in LOOPBACK:
        print("Whoever can reach this address can read the run.", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()


@app.command()
def export(
    run: RunArgument,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="parquet, json, npz, gudhi, safetensors or tensorboard; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; NAME-export by default.")
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="I,J", help="Write the network at a point of this path.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="Where on --path: 0 to 1 of its arc length, or peak.")
    ] = "peak",
) -> None:
    """Write the numbers of a run, or the network at a point of a path, for other programs.

    Example: `toscore export runs/demo --format parquet --format gudhi`
    """
    from orchestrator.report.export import Format, export, export_point, parse_format, parse_pair
    from orchestrator.runs.api import load_run

    wanted = [parse_format(name) for name in formats or ()]
    loaded = load_run(run)
    folder = out or Path(f"{loaded.name}-export")
    if path is not None:
        print(export_point(loaded, parse_pair(path), at, folder))
    elif not wanted:
        wanted = [Format.PARQUET]
    for name in wanted:
        for file in export(loaded, name, folder):
            print(file)


@app.command()
def schema() -> None:
    """The JSON Schema of a run file, for editors.

    Example: `toscore schema > toscore.schema.json`
    """
    from orchestrator.run_file.reading import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def studies(
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="study:NAME or a file: its results so far."),
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The studies of the paper that are shipped, and what they cost; or the results of one so far.

    Example: `toscore studies study:fig2-mnist --set scale=reduced`
    """
    from orchestrator.studies import compare as comparison
    from orchestrator.studies import shipped
    from orchestrator.studies.study import load_study

    if study is None:
        listed = list(shipped.listed())
        if as_json:
            print(json.dumps({"studies": [item.to_json() for item in listed]}, indent=2))
        else:
            Console().print(shipped.view(listed))
        return
    compared = comparison.compare(load_study(study, set_ or ()))
    if as_json:
        print(json.dumps(compared.to_json(), allow_nan=False, indent=2))
    else:
        Console().print(comparison.view(compared))


@app.command()
def networks(
    as_json: AsJson = False,
    torchvision: Annotated[bool, typer.Option(help="Also torchvision's classifiers.")] = False,
) -> None:
    """The networks that a run file can name, each with its number of parameters.

    Example: `toscore networks --json`
    """
    from orchestrator.planning import network_catalogue as catalogue

    found = catalogue.networks(torchvision=torchvision)
    if as_json:
        print(json.dumps({"networks": [network.to_json() for network in found]}, indent=2))
    else:
        Console().print(catalogue.networks_view(found))


def main() -> None:
    """The `toscore` command: what the user got wrong is one sentence and exit code 2."""
    from orchestrator.run_file.errors import UserError

    # A user's module:callable is looked for where the command is called.
    sys.path.insert(0, str(Path.cwd()))
    try:
        app()
    except UserError as error:
        _leave(error)
    except Exception as error:
        from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable

        if isinstance(error, NotWritable | StoreFull | StoreUnreachable):
            _leave(error)  # of the store's place, rights or room: nothing is wrong with the program
        raise


def _leave(error: Exception) -> NoReturn:
    print(f"toscore: {error}", file=sys.stderr)
    sys.exit(ExitCode.BAD_INPUT)
