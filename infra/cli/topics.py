"""`veilstream topics`: the topics as defined."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infra import topics
from infra.service.settings import load_settings

app = typer.Typer(help="Kafka topics of this installation.", no_args_is_help=True)


@app.command("list")
def list_topics(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the topics with partitions and settings, as they are to be."""
    wanted = topics.wanted(load_settings())
    if as_json:
        rows = [
            {"name": t.name, "partitions": t.partitions, "replication": t.replication, "config": t.config}
            for t in wanted
        ]
        typer.echo(json.dumps({"topics": rows}))
        return
    for topic in wanted:
        config = " ".join(f"{key}={value}" for key, value in topic.config.items())
        typer.echo(f"{topic.name}\t{topic.partitions} partitions\t{config}")


@app.command()
def ensure() -> None:
    """Make the topics that are missing."""
    made = topics.ensure(load_settings())
    for name in made:
        typer.echo(f"made topic {name}")
    if not made:
        typer.echo("nothing to do")
