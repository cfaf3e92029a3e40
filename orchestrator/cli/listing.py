"""Commands that list possible inputs: schema, studies, networks."""

import json
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.app import AsJson, Overrides, app


@app.command()
def schema() -> None:
    """Print the JSON Schema of a run file, for editors.

    Example: `toscore schema > toscore.schema.json`
    """
    from orchestrator.run_file.reading import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def studies(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY", help="A study, as study:NAME or a file, whose results are shown."
        ),
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped studies of the paper with their cost, or show the results of one so far.

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
    torchvision: Annotated[
        bool, typer.Option(help="List torchvision's classifiers as well.")
    ] = False,
) -> None:
    """List the networks that a run file can name, each with its number of parameters.

    Example: `toscore networks --json`
    """
    from orchestrator.planning import network_catalogue as catalogue

    entries = catalogue.networks(torchvision=torchvision)
    if as_json:
        print(json.dumps({"networks": [network.to_json() for network in entries]}, indent=2))
    else:
        Console().print(catalogue.networks_view(entries))
