"""The Faust application: one agent over `events.raw`, no tables, no web server, no topics of its own."""

from __future__ import annotations

import logging
from typing import Any

import faust

from infra.service.settings import Settings
from schemas.topics import EVENTS_RAW
from streams.consumer import Positions, Transport
from streams.feeder import Feeder

TAKE = 100  # records that the agent takes at once
WITHIN = 0.02  # seconds that a record waits for others
BUFFER = 256  # records in Faust's buffer; at most 256 KiB each
FETCH_BYTES = 8 << 20  # of one partition at once
SESSION = 6.0  # seconds without heartbeat after which the broker gives the partitions to others
HEARTBEAT = 0.5
COMMIT = 2.0  # seconds between two commits, which serve only to show the lag
FOR_EVER = 7 * 24 * 3600.0  # ClickHouse may be away for so long before the broker is left


class App(faust.App):
    """Faust's App, reading by `streams.consumer`; `positions` says from where."""

    logger = logging.getLogger("faust.app")
    positions: Positions

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep in a folder."""

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker_consumer, self)


def group(settings: Settings) -> str:
    """The consumer group of the stream workers."""
    return settings.topic("veilstream.streams")


def application(settings: Settings, feeder: Feeder) -> App:
    """The app whose agent hands every record to the feeder."""
    app = App(
        group(settings),
        broker=";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(",")),
        autodiscover=False,
        broker_commit_every=10_000,
        broker_commit_interval=COMMIT,
        broker_heartbeat_interval=HEARTBEAT,
        broker_max_poll_interval=FOR_EVER,
        broker_max_poll_records=500,
        broker_session_timeout=SESSION,
        broker_rebalance_timeout=2 * SESSION,
        broker_request_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        key_serializer="raw",
        store="memory://",
        stream_buffer_maxsize=BUFFER,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
    )
    app.positions = feeder
    topic = app.topic(settings.topic(EVENTS_RAW), key_type=bytes, value_type=bytes, internal=False)

    async def store(stream: Any) -> None:
        async for events in stream.noack_take(TAKE, within=WITHIN):
            await feeder.put(events)

    app.agent(topic, name="store")(store)
    return app
