"""What commands share that run a laboratory of the checkout's tests: it is there or not, and it has a folder."""

from __future__ import annotations

import importlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer

TOP = Path(__file__).parents[2]


def module(name: str) -> Any:
    """A module below `tests`; leaves with status 2 where there are none, as in an installed package."""
    if not (TOP / "tests").is_dir():
        typer.echo("the laboratory is in the checkout only, not in the installed package", err=True)
        raise typer.Exit(2)
    if str(TOP) not in sys.path:
        sys.path.insert(0, str(TOP))
    return importlib.import_module(f"tests.{name}")


@dataclass(slots=True)
class Room:
    """A laboratory's folder; `keep`: it stays."""

    path: Path
    keep: bool


@contextmanager
def room(name: str, folder: Path | None) -> Iterator[Room]:
    """The folder that was asked for, or a temporary one, which is gone afterwards unless something failed.

    SIGTERM is as Ctrl-C: the block is left, and the status is 130.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    made = Room(folder or Path(tempfile.mkdtemp(prefix=f"veilstream-{name}-")), folder is not None)
    made.path.mkdir(parents=True, exist_ok=True)
    try:
        yield made
    except KeyboardInterrupt:
        typer.echo("interrupted; everything is cleaned up", err=True)
        raise typer.Exit(130) from None
    except Exception:
        made.keep = True
        raise
    finally:
        if made.keep:
            typer.echo(f"everything is kept in {made.path}", err=True)
        else:
            shutil.rmtree(made.path, ignore_errors=True)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt
