"""The stream worker: `python -m streams.worker`. Reads `events.raw`, stores rows in ClickHouse.

Beside the events, and independently of them, it stores what the video path tells (`streams.video_results`) and holds
the books (`streams.audit`).

It waits for ever for what is away, and exits at once, with status 1 and a line in the log, when going on makes no
sense: the topic was made again, Faust has crashed, a defect. The supervisor starts it again; nothing is lost, because
what was not stored is read again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from datetime import timedelta
from functools import partial
from typing import NoReturn
from uuid import UUID

from infra.service.clickhouse import connect
from infra.service.health import AdminServer, Check, Health
from infra.service.logs import configure, describe, logger
from infra.service.settings import Settings, SettingsError, load_settings
from infra.service.signals import on_stop
from infra.service.vault import Vault, master_keys
from schemas.topics import EVENTS_RAW, RECORDINGS_RAW, SITE_POLICIES
from streams.app import App, application
from streams.audit import Audit
from streams.feeder import Feeder
from streams.lookups import Shelf
from streams.patience import Patience, Stopping
from streams.pipeline import Pipeline
from streams.policies import Policies
from streams.sink import ERRORS
from streams.topic_generations import KafkaError, Topic, generation_of
from streams.upkeep import Follower, Upkeep
from streams.video_results import VideoResults
from streams.video_results import group as recordings_group

log = logger(__name__)

DEADLINE = 15.0  # seconds to stop in
NOISY = ("faust", "mode", "kafka", "urllib3")
FLOODING = ("aiokafka", "clickhouse_connect")  # an error with every try while what they ask is away


class NoTopic(RuntimeError):
    """The topic does not exist (yet)."""


def leave(error: BaseException) -> NoReturn:
    """Exit at once: whatever still runs is cut off, as a crash would do, and nothing more is acknowledged."""
    log.error("leaving", **describe(error))
    sys.stderr.flush()
    os._exit(1)


def open_pipeline(settings: Settings, patience: Patience) -> tuple[Pipeline, UUID]:
    """The pipeline under the topic's current id, waiting for ClickHouse, Kafka and the topic; raises Stopping."""
    name = settings.topic(EVENTS_RAW)
    topic = Topic(settings.kafka, name)

    def current() -> UUID:
        found = topic.id()
        if found is None:
            raise NoTopic(f"there is no topic {name}; `veilstream migrate` makes it")
        return found

    client = patience.insist("clickhouse", lambda: connect(settings), *ERRORS)
    topic_id = patience.insist("kafka", current, KafkaError, NoTopic)
    generation = patience.insist("clickhouse", lambda: generation_of(client, topic_id), *ERRORS)
    vault = Vault(client, partial(master_keys, settings.master_key), kept=settings.secrets_kept)
    shelf = Shelf(Policies(settings.kafka, settings.topic(SITE_POLICIES)), vault, name)
    upkeep = Upkeep(
        client,
        Topic(settings.kafka, name),
        generation,
        partitions=settings.events_partitions,
        margin=timedelta(hours=settings.raw_margin_hours),
        readers=settings.other_readers,
        followers=[Follower(Topic(settings.kafka, settings.topic(RECORDINGS_RAW)), recordings_group(settings))],
    )
    pipeline = Pipeline(client, name, generation, shelf, patience, lambda: topic.expect(topic_id), upkeep)
    return pipeline, topic_id


async def work(settings: Settings, stop: threading.Event, health: Health) -> None:
    """Run until `stop` is set and everything has ended."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def begin() -> None:
        health.stopping()
        stop.set()
        stopping.set()

    on_stop(begin, deadline=DEADLINE, loop=loop)
    videos = VideoResults(settings)
    health.live = videos.alive
    videos.start()
    await asyncio.gather(_events(settings, stop, stopping, health, videos), _ended(videos, stopping))


async def _ended(videos: VideoResults, stopping: asyncio.Event) -> None:
    await stopping.wait()
    await videos.stop(DEADLINE / 3)


async def _events(
    settings: Settings, stop: threading.Event, stopping: asyncio.Event, health: Health, videos: VideoResults
) -> None:
    opening = asyncio.to_thread(open_pipeline, settings, Patience(stop))
    try:
        pipeline, topic_id = await opening
    except Stopping:
        return
    feeder = Feeder(
        pipeline, Topic(settings.kafka, settings.topic(EVENTS_RAW)), topic_id, leave, settings.upkeep_seconds
    )
    app = application(settings, feeder)
    health.live, health.ready = _first(feeder.alive, videos.alive), _first(feeder.ready, videos.ready)
    feeder.start()
    Audit(settings, pipeline.generation, lambda: feeder.owns(0), stop).start()
    app.finalize()
    await app.start()
    log.info("started", topic=settings.topic(EVENTS_RAW), generation=pipeline.generation)
    while not stopping.is_set():
        if app.crashed:
            leave(app.crash_reason or RuntimeError("Faust has crashed"))
        try:
            await asyncio.wait_for(stopping.wait(), 0.5)
        except TimeoutError:
            continue
    await feeder.stop()
    await _stop(app)


def _first(*checks: Check) -> Check:
    """The first thing that is not well."""
    return lambda: next((reason for check in checks if (reason := check())), "")


async def _stop(app: App) -> None:
    try:
        await asyncio.wait_for(app.stop(), DEADLINE / 3)
    except Exception as error:
        log.warning("stopped_hard", error=type(error).__name__)


def main() -> int:
    """The process; returns its exit status."""
    try:
        settings = load_settings()
        configure("worker", settings.log_level)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    for name in FLOODING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    health = Health(ready=lambda: "starting")
    stop = threading.Event()
    with AdminServer(settings.host, settings.worker_admin_port, health):
        try:
            asyncio.run(work(settings, stop, health))
        except Exception as error:
            leave(error)
    log.info("stopped")
    sys.stderr.flush()
    os._exit(0)  # threads of the clients may still wait for what is away


if __name__ == "__main__":
    sys.exit(main())
