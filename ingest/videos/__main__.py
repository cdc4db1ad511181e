"""`python -m ingest.videos`: the video API as a process, on `video_port`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time

from granian.constants import Interfaces
from granian.server.embed import Server

from infra.service.backlog import Watch
from infra.service.health import Health
from infra.service.logs import configure, describe, logger
from infra.service.outbound import Outbound
from infra.service.settings import Settings, SettingsError, load_settings
from infra.service.signals import on_stop
from infra.service.storage import storage, sweep
from ingest.videos.access import Access
from ingest.videos.app import application
from ingest.videos.intake import Intake
from ingest.videos.jobs import Jobs
from ingest.videos.library import Library
from ingest.videos.states import Away, States
from ingest.videos.tickets import Tickets
from ingest.videos.webhooks import Webhooks
from schemas.sites import SitesError

log = logger(__name__)

DEADLINE = 20.0  # seconds to stop in
CLEAN = 3600.0  # seconds between two cleanings


async def serve(settings: Settings, access: Access) -> None:
    """Answers until told to stop; requests under way are answered."""
    jobs, states, kept = Jobs(settings), States(settings), storage(settings)
    health = Health(ready=lambda: jobs.problem)
    tickets = Tickets(kept, settings.video_repeat_hours * 3600)
    outbound = Outbound(settings)
    webhooks = Webhooks(settings, kept, outbound)
    health = Health(live=webhooks.progress.check, ready=lambda: jobs.problem)
    intake = Intake(settings, jobs, states, tickets, kept, outbound)
    app = application(settings, access, intake, Library(jobs, states, kept), health)
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
    webhooks.start()
    ahead = Watch(settings)
    ahead.start()
    beside = [asyncio.create_task(access.watch()), asyncio.create_task(clean(settings, tickets, states))]
    log.info("started", port=settings.video_port)
    try:
        await server.serve()
    finally:
        for task in beside:
            task.cancel()
        ahead.stop()
        await asyncio.to_thread(webhooks.stop)
        await asyncio.to_thread(jobs.close)
        states.close()


async def clean(settings: Settings, tickets: Tickets, states: States) -> None:
    """Removes what is over, now and every hour."""
    while True:
        try:
            await asyncio.to_thread(sweep, settings.video_scratch)
            await asyncio.to_thread(tickets.clean, time.time(), states.known)
        except (OSError, Away) as error:
            log.warning("not_cleaned", **describe(error))
        await asyncio.sleep(CLEAN)


def main() -> int:
    """The process; returns its exit status."""
    try:
        settings = load_settings()
        configure("videos", settings.log_level)
        settings.videos.mkdir(parents=True, exist_ok=True)
        access = Access(settings.sites)
        storage(settings).private.check()
    except (SettingsError, SitesError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # an error with every try while the broker is away
    try:
        asyncio.run(serve(settings, access))
    except Exception as error:
        log.error("leaving", **describe(error))
        sys.stderr.flush()
        os._exit(1)
    log.info("stopped")
    sys.stderr.flush()
    os._exit(0)  # threads of the clients may still wait for what is away


if __name__ == "__main__":
    sys.exit(main())
