"""`python -m ingest.videos`: the video API as a process, on `video_port`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from granian.constants import Interfaces
from granian.server.embed import Server

from infra.service.health import Health
from infra.service.logs import configure, describe, logger
from infra.service.settings import Settings, SettingsError, load_settings
from infra.service.signals import on_stop
from ingest.videos.app import application
from ingest.videos.jobs import Jobs
from ingest.videos.states import States

log = logger(__name__)

DEADLINE = 20.0  # seconds to stop in


async def serve(settings: Settings) -> None:
    """Answers until told to stop; requests under way are answered."""
    jobs, states = Jobs(settings), States(settings)
    health = Health(ready=lambda: jobs.problem)
    app = application(settings.videos.absolute(), settings.video_max_bytes, jobs, states, health)
    server = Server(
        app,
        address=settings.host,
        port=settings.video_port,
        interface=Interfaces.ASGI,
        websockets=False,
        log_enabled=False,
    )

    def stop() -> None:
        health.stopping()
        server.stop()  # type: ignore[no-untyped-call]

    on_stop(stop, deadline=DEADLINE, loop=asyncio.get_running_loop())
    jobs.start()
    log.info("started", port=settings.video_port)
    try:
        await server.serve()
    finally:
        await asyncio.to_thread(jobs.close)
        states.close()


def main() -> int:
    """The process; returns its exit status."""
    try:
        settings = load_settings()
        configure("videos", settings.log_level)
        settings.videos.mkdir(parents=True, exist_ok=True)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # an error with every try while the broker is away
    try:
        asyncio.run(serve(settings))
    except Exception as error:
        log.error("leaving", **describe(error))
        sys.stderr.flush()
        os._exit(1)
    log.info("stopped")
    sys.stderr.flush()
    os._exit(0)  # threads of the clients may still wait for what is away


if __name__ == "__main__":
    sys.exit(main())
