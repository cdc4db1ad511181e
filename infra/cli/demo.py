"""`veilstream demo`: a whole stack of its own, 100,000 events and some videos through it, and what comes out."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from infra.demo import STEADY_RATE, Figures, prepare, run
from infra.load.progress import Progress
from infra.local.ports import reachable
from infra.local.stack import Stack
from infra.videos import VideoError, VideoFigures, VideoJob, place


def command(
    events: Annotated[int, typer.Option(min=100, help="How many events are sent.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same requests.")] = 1,
    video: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="A video; may be given again. Default: three that ffmpeg makes."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave the stack running and say how to stop it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Everything happens in a temporary folder, on free ports, and is gone afterwards unless --keep is given.

    Posters and storyboards are made of the videos while traffic runs; one video more is damaged on purpose.

    The exit status is 0 when nothing was lost, doubled or against the rules, every video is done, and the damaged one
    is reported as such.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="veilstream-demo-"))
    kept = False
    try:
        with Progress() as progress:
            stack = prepare(folder / "state", owned=not keep, say=progress.say)
            try:
                names = place(stack.settings.videos, video or ())
                stack.start()
                figures = run(stack, folder, events=events, seed=seed, videos=names, progress=progress)
                kept = keep
            finally:
                if not kept:
                    stack.stop()
            seconds = round(time.monotonic() - began, 1)
            for line in lines(figures, seconds, kept):
                progress.say(line)
            if kept:
                for line in addresses(stack):
                    progress.say(line)
        if as_json:
            typer.echo(json.dumps(summary(figures, seconds)))
    except VideoError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; everything is cleaned up", err=True)
        raise typer.Exit(130) from None
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    if not figures.right:
        raise typer.Exit(1)


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def lines(figures: Figures, seconds: float, kept: bool) -> list[str]:
    """The outcome for people; `kept`: the thumbnails are still there."""
    books = figures.books

    def table(rows: list[tuple[str, int]]) -> str:
        return "  ".join(f"{name} {count:,}" for name, count in rows) or "none"

    out = [
        "",
        f"pages viewed     {figures.pages:,}",
        f"visits           {figures.visits:,} of {figures.visitors:,} visitors",
        f"referrers        {table(figures.referrers)}",
        f"devices          {table(figures.devices)}",
        "",
        f"sent             {books.sent:,} (refused {books.refused:,}, unknown {books.unknown:,})",
        f"acknowledged     {books.acknowledged:,}",
        f"stored           {books.stored:,}",
        f"excluded         {books.excluded:,}",
        f"rejected         {books.rejected:,}",
        f"repeats          {books.repeats:,} (sent again, and dropped)",
        f"lost             {books.lost:,}",
        f"doubled          {books.doubled:,}",
        f"unexplained      {books.unexplained:,}",
        *(f"    {finding}" for finding in books.findings),
        *([f"    {figures.odd_answers} answers were against the rules"] if figures.odd_answers else []),
        "",
        *_videos(figures.videos, kept),
        "",
        f"event to query   p50 {figures.steady_ms['p50']:,.0f} ms, p99 {figures.steady_ms['p99']:,.0f} ms"
        f" at {STEADY_RATE} events/s (from before a request is written until a SELECT shows its row;"
        f" {figures.steady_ms['probes']} probes)",
        f"                 p50 {figures.burst_ms['p50']:,.0f} ms, p99 {figures.burst_ms['p99']:,.0f} ms"
        f" while events were sent as fast as it goes",
        f"speed            {figures.events_per_second:,.0f} events/s acknowledged in the burst",
        f"{seconds:.0f} s in all",
    ]
    return out


def _videos(videos: VideoFigures, kept: bool) -> list[str]:
    damaged = videos.damaged
    return [
        f"videos           {videos.done} of {len(videos.jobs)} done, {videos.failed} failed,"
        f" in {videos.seconds:.1f} s beside the traffic",
        *(line for job in videos.jobs for line in _video(job)),
        f"    {damaged.name}, damaged on purpose: {damaged.state}, {damaged.answer.get('reason', 'no reason')}"
        f" ({damaged.answer.get('detail', '')})",
        *(f"    {problem}" for job in (*videos.jobs, damaged) for problem in job.problems),
        *([] if kept else ["    the files are gone with the demo's folder; --keep leaves them"]),
    ]


def _video(job: VideoJob) -> list[str]:
    source = job.answer.get("source")
    if not source:
        return [f"    {job.name}: {job.state}"]
    return [
        f"    {job.name}, {source['width']} x {source['height']} {source['codec']}, {source['duration']:.0f} s:"
        f" {job.state} in {job.answer['seconds']:.2f} s ({job.answer['engine']})",
        *(f"        {file.path}  {file.width} x {file.height}, {file.bytes:,} bytes" for file in job.files),
    ]


def summary(figures: Figures, seconds: float) -> dict[str, object]:
    """The outcome for programs."""
    books = figures.books
    names = ("sent", "acknowledged", "stored", "excluded", "rejected", "repeats", "lost", "doubled")
    return {
        "events": {name: getattr(books, name) for name in (*names, "unexplained", "refused", "unknown")},
        "latency_ms": {name: figures.steady_ms[name] for name in ("p50", "p99")},
        "burst_latency_ms": {name: figures.burst_ms[name] for name in ("p50", "p99")},
        "videos": figures.videos.as_dict(),
        "events_per_second": figures.events_per_second,
        "odd_answers": figures.odd_answers,
        "pages": figures.pages,
        "visits": figures.visits,
        "seconds": seconds,
    }


def addresses(stack: Stack) -> list[str]:
    """Where everything is, for --keep."""
    s = stack.settings
    return [
        "",
        f"tracking API     http://{reachable(s.host)}:{s.collector_port}/matomo.php",
        f"video API        http://{reachable(s.host)}:{s.video_port}/v1/videos (takes videos from {s.videos},"
        f" token in {s.api_token})",
        f"thumbnails       {s.thumbnails}",
        f"ClickHouse       {s.clickhouse} database {s.clickhouse_database}, user {s.clickhouse_dashboard_user}"
        f" (password in {s.state / 'passwords'}/clickhouse_dashboard_password)",
        f"Kafka            {s.kafka}",
        f"look             VEILSTREAM_STATE={s.state} ./run status",
        f"stop             VEILSTREAM_STATE={s.state} ./run down && rm -r {s.state.parent}",
    ]
