"""The `veilstream` command. Every module of this package is a sub-command of its name, with
dashes, loaded when it is called.

A module has either `app`, a Typer application with sub-commands, or `command`, one function. What its docstring's
first line says after the colon is the short help. Exit status: 0 what was asked holds, 1 it does not, 2 it was asked
wrongly.
"""

from __future__ import annotations

import ast
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

DESCRIPTION = "Privacy-safe web analytics and video thumbnails. ./run COMMAND prepares what is missing first."


def summaries() -> dict[str, str]:
    """The sub-commands and their short help, read from the modules without loading them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            summary = text.partition("\n")[0].partition(": ")[2]
            found[path.stem.rstrip("_").replace("_", "-")] = summary[:1].upper() + summary[1:]
    return found


def application(wanted: str) -> typer.Typer:
    """The Typer application with sub-command `wanted` loaded and all others known by name only."""
    app = typer.Typer(
        name="veilstream",
        help=DESCRIPTION,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root() -> None:
        pass

    for name, summary in summaries().items():
        if name != wanted:
            app.command(name, help=summary)(lambda: None)
            continue
        stem = name.replace("-", "_")
        module = importlib.import_module(f"infra.cli.{stem}{'_' if keyword.iskeyword(stem) else ''}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            settings = getattr(module, "CONTEXT", {})
            app.command(name, context_settings=settings)(module.command)
    return app


def explain(error: Exception) -> tuple[str, int]:
    """An error for people, in one line unless it brings the end of a log, and the exit status."""
    from infra.service.logs import OURS
    from infra.service.settings import SettingsError

    text = str(error) or type(error).__name__
    if isinstance(error, SettingsError):
        return text, 2
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in OURS:
        return text, 1
    return f"{type(error).__name__}: {' '.join(text.split())[:1000]}", 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its status. VEILSTREAM_LOG_LEVEL=debug shows where an error comes from."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        application(arguments[0] if arguments else "")(arguments, prog_name="veilstream")
    except Exception as error:
        if os.environ.get("VEILSTREAM_LOG_LEVEL", "").lower() == "debug":
            raise
        text, status = explain(error)
        print(f"error: {text}", file=sys.stderr)
        sys.exit(status)
