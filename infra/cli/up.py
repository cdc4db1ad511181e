"""`veilstream up`: start the local stack and return when it is ready."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from infra.local.ports import reachable
from infra.local.stack import PartStatus, Stack
from infra.service.settings import load_settings

LOOK = 1.0  # seconds between looks at a stack in the foreground


class _Stopped(BaseException):
    """SIGTERM, raised where the main thread is."""


def command(
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay, show changes, take the stack down at Ctrl-C.")
    ] = False,
) -> None:
    """Start Kafka, ClickHouse, collector, stream worker, video API and media worker, each when what it needs is ready.

    Doing it again starts what is missing. `down` takes it down, `status` shows it.
    """
    stack = Stack(load_settings(), owned=foreground, say=_say)

    def stopped(*_: object) -> None:
        raise _Stopped

    signal.signal(signal.SIGTERM, stopped)
    try:
        if foreground and stack.running():
            typer.echo("the stack runs already; take it down first to run it in the foreground", err=True)
            raise typer.Exit(1)
        stack.start()
        _show_addresses(stack)
        if foreground:
            _stay(stack)
    except (KeyboardInterrupt, _Stopped):
        # A stack that `start` did not finish has been stopped by it.
        typer.echo("interrupted, nothing is left running", err=True)
        raise typer.Exit(130) from None


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _show_addresses(stack: Stack) -> None:
    settings = stack.settings
    typer.echo(f"tracking API  http://{reachable(settings.host)}:{settings.collector_port}/matomo.php")
    typer.echo(f"video API     http://{reachable(settings.host)}:{settings.video_port}/v1/videos")
    typer.echo(f"token         {settings.api_token}  (of the video API)")
    typer.echo(f"videos        {settings.videos}  (taken from here)")
    typer.echo(f"thumbnails    {settings.thumbnails}")
    typer.echo(f"ClickHouse    {settings.clickhouse}  (user {settings.clickhouse_dashboard_user})")
    typer.echo(f"Kafka         {settings.kafka}")
    typer.echo(f"logs          {settings.state / 'logs'}")


def _stay(stack: Stack) -> None:
    """Shows restarts until a signal comes, then takes the stack down."""
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    typer.echo("Ctrl-C takes it down", err=True)
    before = stack.status()
    while not end.wait(LOOK):
        if not stack.running():
            break
        now = stack.status()
        for old, new in zip(before, now, strict=True):
            _show_change(old, new)
        before = now
    stack.stop()


def _show_change(old: PartStatus, new: PartStatus) -> None:
    if new.restarts != old.restarts:
        _say(f"{new.name} was started again ({new.restarts} times so far), its log is {new.log}")
    elif new.ready != old.ready:
        _say(f"{new.name} is ready" if new.ready else f"{new.name} is not ready: {new.reason}")
