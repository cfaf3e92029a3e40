"""Commands that read a run: status, verify, reduce, report, compare, watch, export."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.app import AsJson, RunArgument, TrustCode, app, look_for_modules
from orchestrator.scheduling.exit_codes import ExitCode


@app.command()
def status(run: RunArgument, as_json: AsJson = False) -> None:
    """Show the completed, remaining and failed tasks of a run; reads only the store.

    Example: `toscore status runs/demo`
    """
    from orchestrator.dashboard.progress import DriverWatch
    from orchestrator.runs.stored_run import open_run, status_json, status_view

    opened = open_run(run)
    driver, described = DriverWatch().decided_state(opened.store.objects)
    if as_json:
        status = {**status_json(opened), "driver": {"state": driver, "process": described}}
        print(json.dumps(status, indent=2))
        return
    console = Console()
    console.print(status_view(opened))
    console.print(f"driver: {driver}{f' ({described})' if described else ''}", highlight=False)


@app.command()
def verify(
    run: RunArgument,
    heights: Annotated[
        int, typer.Option(help="Number of heights to recompute from their points.", min=0)
    ] = 10,
    as_json: AsJson = False,
    trust_code: TrustCode = False,
) -> None:
    """Check every object of a run against its digest, and some heights against their points.

    Example: `toscore verify runs/demo --heights 50`
    """
    from orchestrator.report.verification import verification_view
    from orchestrator.runs.stored_run import open_run
    from orchestrator.runs.verification import verify as verify_run

    look_for_modules(run)
    result = verify_run(open_run(run, trust_code=trust_code), heights)
    if as_json:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        Console().print(verification_view(result))
    raise typer.Exit(ExitCode.COMPLETE if result.sound else ExitCode.FAILED_TASKS)


@app.command()
def reduce(
    run: RunArgument,
    as_json: AsJson = False,
    prove: Annotated[
        bool,
        typer.Option(
            "--prove",
            help="Also prove an upper bound of each path that ends a bar, for fully connected networks with "
            "cross entropy or mse; loads network and data.",
        ),
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Print the barcodes and TO-scores of the results that a run has so far.

    Example: `toscore reduce runs/demo --json`
    """
    from orchestrator.report.terminal import barcode_view
    from orchestrator.runs.stored_run import open_run

    if prove:
        look_for_modules(run)
    started = open_run(run, trust_code=trust_code)
    landscape, bounds = started.landscape(), []
    if prove:
        from orchestrator.runs.proved_bounds import proved_bounds

        bounds = list(proved_bounds(started))
    if as_json:
        proved = {"bounds": [bound.to_json() for bound in bounds]} if prove else {}
        print(json.dumps({**landscape.to_json(), **proved}, allow_nan=False))
    else:
        console = Console()
        console.print(barcode_view(landscape, console.width))
        for bound in bounds:
            console.print(str(bound), highlight=False)


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

    opened = open_run(run)
    written = write_report(opened, out or folder_of(run))
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
    """Show several runs side by side: barcodes, scores against size, distances.

    Example: `toscore compare runs/narrow runs/wide --out comparison`
    """
    from orchestrator.report.comparison.compared_runs import compared
    from orchestrator.report.comparison.page import comparison_view
    from orchestrator.report.write import write_comparison
    from orchestrator.runs.stored_run import open_run

    comparison = compared([open_run(run) for run in runs])
    Console().print(comparison_view(comparison))
    if out is not None:
        written = write_comparison(comparison, out)
        print(f"{written.page}\n{written.figures}{os.sep}  {written.count} figures")


@app.command()
def watch(
    run: RunArgument,
    port: Annotated[
        int, typer.Option(help="Port to serve at; 0 for any free port.", min=0, max=65535)
    ] = 8787,
    host: Annotated[
        str, typer.Option(help="Address to serve at; this machine alone by default.")
    ] = ("127.0.0.1"),
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further host name that browsers may use, for instance that of a proxy; repeatable.",
        ),
    ] = None,
) -> None:
    """Serve a live page of a run; reads only the store. Ctrl-C ends it.

    Example: `toscore watch runs/demo --port 8787`
    """
    from orchestrator.dashboard.server import LOOPBACK, serve
    from orchestrator.runs.stored_run import open_run

    server = serve(open_run(run), host, port, allow_host or ())
    print(f"{server.url}  (Ctrl-C ends it)", flush=True)
    if host not in LOOPBACK:
        print("Anybody who can reach this address can read the run.", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()


@app.command()
def export(
    run: RunArgument,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="parquet, json, npz, gudhi, safetensors, tensorboard or pathsample; repeatable.",
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
    trust_code: TrustCode = False,
) -> None:
    """Write the numbers of a run, or the network at a point of a path, for other programs.

    Example: `toscore export runs/demo --format parquet --format gudhi`
    """
    from orchestrator.report.export import Format, export, export_point, parse_format, parse_pair
    from orchestrator.runs.api import load_run

    wanted = [parse_format(name) for name in formats or ()]
    look_for_modules(run)
    loaded = load_run(run, trust_code=trust_code)
    folder = out or Path(f"{loaded.name}-export")
    if path is not None:
        print(export_point(loaded, parse_pair(path), at, folder))
    elif not wanted:
        wanted = [Format.PARQUET]
    for name in wanted:
        for file in export(loaded, name, folder):
            print(file)
