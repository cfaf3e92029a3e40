"""Commands that start, continue or end runs: run, submit, stop, plan, retry."""

import contextlib
import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.app import (
    Address,
    AsJson,
    InProcess,
    Log,
    Overrides,
    Quiet,
    RunArgument,
    RunFileArgument,
    TrustCode,
    app,
    command_line,
    look_for_modules,
)
from orchestrator.scheduling.exit_codes import ExitCode


@app.command()
def run(
    file: RunFileArgument,
    set_: Overrides = None,
    address: Address = None,
    in_process: InProcess = False,
    quiet: Quiet = False,
    log: Log = None,
) -> None:
    """Run a run file or a study, or continue it.

    Example: `toscore run examples/demo.yaml --set minima.count=8`
    """
    from orchestrator.endings import print_end
    from orchestrator.launch import LaunchOptions, execute
    from orchestrator.run_file.reading import is_piped, load
    from orchestrator.studies.study import is_study, load_study

    look_for_modules(file)
    location, users_code = "", False

    def go_on() -> str:
        """The command that continues the run: from its store, if the run file is a pipe or is gone."""
        if str(file).startswith("study:") or (file.is_file() and not is_piped(file)):
            return command_line(
                "run",
                file,
                overrides=set_,
                address=address,
                in_process=in_process,
                quiet=quiet,
                log=log,
            )
        if not location:  # nothing is stored yet
            return "save the run file and run that"
        return command_line(
            "retry",
            location,
            address=address,
            in_process=in_process,
            quiet=quiet,
            trust_code=users_code,
        )

    try:
        if is_study(file):
            from orchestrator.studies.run import run_study

            study = load_study(file, set_ or ())
            if log is not None:
                from orchestrator.run_file.errors import UserError

                raise UserError(
                    "--log records a single run, and a study has several: leave it out."
                )
            code = run_study(
                study, go_on=go_on(), address=address, in_process=in_process, quiet=quiet
            )
        else:
            settings = load(file, set_ or ())
            options = LaunchOptions(address, in_process, quiet, log)
            ended = execute(settings, options)
            location, users_code = ended.location, bool(settings.code_references)
            print_end(ended, go_on(), quiet)
            code = ended.code
    except KeyboardInterrupt:  # before anything ran
        print(f"Interrupted. To continue: {go_on()}", file=sys.stderr)
        code = ExitCode.INTERRUPTED
    raise typer.Exit(code)


@app.command()
def submit(
    file: RunFileArgument,
    address: Annotated[str, typer.Option(help="The head's dashboard, http://HOST:8265.")],
    set_: Overrides = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="A folder to upload, with your code, checkpoints and FILE in it."),
    ] = None,
    installed: Annotated[
        bool,
        typer.Option(
            "--installed", help="Use the toscore installed on the cluster; upload no code."
        ),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
) -> None:
    """Run a run file on a cluster through Ray's Jobs API, or continue it.

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
    """Ask the driver of a run, on any machine, to finish its running tasks and end.

    Example: `toscore stop s3://bucket/runs/demo`
    """
    from orchestrator.runs.stored_run import location_of
    from orchestrator.scheduling.stop_request import ask_to_stop
    from workers.storage.open_objects import open_objects

    holder = ask_to_stop(open_objects(location_of(run)))
    print(f"Asked {holder.described} to finish its running tasks and end.", file=sys.stderr)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Switch off garbage collection: it takes a tenth of the time of importing torch."""
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
            help="Time a short sample on this machine now, or not at all; by default the time of the first "
            "sample is reused.",
        ),
    ] = None,
) -> None:
    """Show the tasks and the cost of a run or a study; run and write nothing.

    Example: `toscore plan examples/demo.yaml --set minima.count=1000`
    """
    from orchestrator.planning.cost import estimate
    from orchestrator.planning.cost_view import estimate_view
    from orchestrator.run_file.reading import load
    from orchestrator.studies.study import is_study, load_study

    look_for_modules(file)
    if is_study(file):
        from orchestrator.studies.run import plan_study, plan_view

        plans = plan_study(load_study(file, set_ or ()), sample=sample)
        if as_json:
            print(json.dumps([each.to_json() for each in plans], indent=2))
        else:
            Console().print(plan_view(plans))
        return
    cost = estimate(load(file, set_ or ()), sample=sample)
    if as_json:
        print(json.dumps(cost.to_json(), indent=2))
    else:
        Console().print(estimate_view(cost))


@app.command()
def escape(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A run file: its data, network, loss and training are used."
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Of the trained network; not needed where FILE names it in minima.from.",
        ),
    ] = None,
    set_: Overrides = None,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Show what it would cost; run and write nothing.")
    ] = False,
    points: Annotated[
        int, typer.Option(help="Checkpoints along the path, the ends included.", min=2)
    ] = 11,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the path's checkpoints; NAME-escape by default."),
    ] = None,
    address: Address = None,
    in_process: InProcess = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Ask how hard it is to leave one trained network: the lowest known pass to a lower minimum.

    Example: `toscore escape mine.yaml trained.safetensors --set minima.restarts.count=12`
    """
    from orchestrator.analysis.escape import escape_of_run
    from orchestrator.planning.cost import estimate
    from orchestrator.planning.cost_view import estimate_view
    from orchestrator.runs.api import LoadedRun
    from orchestrator.runs.stored_run import open_run
    from orchestrator.studies.escape import escape_run, write_path

    look_for_modules(file)
    wanted = escape_run(file, checkpoint, tuple(set_ or ()))
    if only_plan or not quiet:
        Console(stderr=not only_plan).print(estimate_view(estimate(wanted)))
    if only_plan:
        return
    from orchestrator.launch import LaunchOptions, execute

    ended = execute(wanted, LaunchOptions(address, in_process, quiet))
    started = open_run(ended.location, own=wanted)
    loaded = LoadedRun(started, started.landscape())
    if not loaded.landscape.complete:
        reason = ended.outcome.reason or f"{wanted.name} is not complete"
        print(f"{reason}: the same command continues.", file=sys.stderr)
        raise typer.Exit(ended.code)
    result = escape_of_run(wanted, loaded.landscape)
    assert result is not None  # the run is complete, and its pair rule is `from`
    print(json.dumps(result.to_json()) if as_json else result)
    if result.to is not None:
        files = write_path(loaded, result.to, points, out or Path(wanted.name), result.minimum)
        print(f"{files[0].parent}: {len(files) - 1} checkpoints and path.json", file=sys.stderr)
    raise typer.Exit(ended.code)


@app.command()
def sweep(
    run: RunArgument,
    values: Annotated[
        str, typer.Argument(metavar="KEY=[...]", help="A key of the run file and its values.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the table and the figure; that of the sweep by default."),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Also search for all paths anew at each value, and compare the barcodes.",
        ),
    ] = False,
    address: Address = None,
    in_process: InProcess = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    trust_code: TrustCode = False,
) -> None:
    """Follow the minima and paths of a finished run while one key changes, as the ridge or the images.

    Example: `toscore sweep runs/demo "loss.ridge=[2.0e-3, 4.0e-3]"`
    """
    from orchestrator.runs.stored_run import open_run
    from orchestrator.studies.sweep import parse_sweep, sweep
    from orchestrator.studies.sweep_view import sweep_view, write_sweep

    look_for_modules(run)
    key, wanted = parse_sweep(values)
    base = open_run(run, trust_code=trust_code)
    base.check_code()
    steps = list(
        sweep(
            base,
            key,
            wanted,
            address=address,
            in_process=in_process,
            quiet=quiet,
            fresh=fresh,
        )
    )
    if as_json:
        print(json.dumps([step.to_json() for step in steps]))
    else:
        Console().print(sweep_view(key, steps))
    for file in write_sweep(key, steps, base, out):
        print(file, file=sys.stderr)


@app.command()
def retry(
    run: RunArgument,
    address: Address = None,
    in_process: InProcess = False,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Run the failed tasks of a run again.

    Example: `toscore retry runs/demo`
    """
    from orchestrator.launch import LaunchOptions, launch
    from orchestrator.runs.stored_run import open_run

    look_for_modules(run)
    opened = open_run(run, trust_code=trust_code)
    opened.check_code()
    go_on = command_line(
        "retry",
        run,
        address=address,
        in_process=in_process,
        quiet=quiet,
        trust_code=trust_code,
    )
    options = LaunchOptions(address, in_process, quiet, retry=True, location=opened.location)
    code = launch(opened.plan.run, options, command=go_on)
    raise typer.Exit(code)
