"""The parts of the local stack: which processes there are, how each is started, and when it is ready."""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from infra.local import kafka
from infra.local.ports import Port, reachable
from infra.service.settings import PREFIX, Settings

PROBE_TIMEOUT = 2.0  # seconds
ADMIN_STEP = 10  # between the admin ports of the processes of one role
MOST_SHOWN = 200  # characters of a reason
ROLES = ("kafka", "front", "collector", "worker", "videos", "media")


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack. `ready` answers "" or why it is not ready; times are seconds."""

    name: str
    role: str
    command: tuple[str, ...]
    ports: tuple[Port, ...]
    ready: Callable[[], str]
    start_limit: float
    stop_limit: float
    environment: dict[str, str] = field(default_factory=dict)


def http_ready(host: str, port: int, path: str) -> str:
    """A probe: GET answers 200."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(MOST_SHOWN).decode(errors="replace").strip()
        return "" if answer.status == 200 else f"{path} answers {answer.status}: {body}"
    except (OSError, http.client.HTTPException) as error:
        return f"{path} on port {port}: {getattr(error, 'strerror', None) or type(error).__name__}"
    finally:
        connection.close()


def kafka_ready(servers: str) -> str:
    """A probe: the cluster has a broker that takes part in it."""
    host, _, port = servers.split(",")[0].strip().rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_TIMEOUT).close()
    except OSError as error:
        return f"port {port}: {error.strerror or type(error).__name__}"
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaConnectionError, KafkaTimeoutError, RetriableError

    try:
        admin = KafkaAdminClient(
            bootstrap_servers=servers.split(","), request_timeout_ms=2000, bootstrap_timeout_ms=2000
        )
        try:
            return "" if admin.describe_cluster()["brokers"] else "no broker has joined yet"
        finally:
            admin.close()
    except (RetriableError, KafkaConnectionError, KafkaTimeoutError, OSError) as error:
        return f"no answer to the cluster's description: {type(error).__name__}"


def local_broker(settings: Settings) -> bool:
    """Whether these settings use the local broker."""
    return f"{kafka.HOST}:{settings.kafka_port}" in settings.kafka.replace("localhost", kafka.HOST).split(",")


def parts(settings: Settings, names: Sequence[str] | None = None) -> list[Part]:
    """The parts in the order of starting; `names` are those of ROLES that are wanted, default all."""
    every = [
        *_broker(settings),
        *_front(settings),
        *_collectors(settings),
        *_workers(settings),
        *_videos(settings),
        *_media(settings),
    ]
    return [part for part in every if names is None or part.role in names]


def _broker(settings: Settings) -> list[Part]:
    if not local_broker(settings):
        return []
    ports = (
        Port(kafka.HOST, settings.kafka_port, "the Kafka broker", PREFIX + "KAFKA_PORT"),
        Port(kafka.HOST, settings.kafka_controller_port, "Kafka's controller", PREFIX + "KAFKA_CONTROLLER_PORT"),
    )
    command = tuple(kafka.command(settings.state / "kafka" / "server.properties"))
    ready = partial(kafka_ready, f"{kafka.HOST}:{settings.kafka_port}")
    return [Part("kafka", "kafka", command, ports, ready, start_limit=120, stop_limit=30)]


def _front(settings: Settings) -> list[Part]:
    if settings.clickhouse_url:
        return []
    port = settings.clickhouse_port
    command = (
        *(sys.executable, "-m", "infra.local.front"),
        *("--path", str(settings.state / "clickhouse"), "--host", settings.host, "--port", str(port)),
    )
    ports = (Port(settings.host, port, "ClickHouse's HTTP front", PREFIX + "CLICKHOUSE_PORT"),)
    ready = partial(http_ready, settings.host, port, "/ping")
    return [Part("front", "front", command, ports, ready, start_limit=120, stop_limit=30)]


def _collectors(settings: Settings) -> list[Part]:
    found = []
    for number in range(settings.collector_processes):
        admin = settings.collector_admin_port + ADMIN_STEP * number
        health = Port(settings.host, admin, "the collector's health", PREFIX + "COLLECTOR_ADMIN_PORT")
        ports: tuple[Port, ...] = (health,)
        if number == 0:
            tracking = Port(settings.host, settings.collector_port, "the tracking API", PREFIX + "COLLECTOR_PORT")
            ports = (tracking, health)
        found.append(
            Part(
                "collector" if settings.collector_processes == 1 else f"collector-{number + 1}",
                "collector",
                (sys.executable, "-m", "ingest.collector"),
                ports,
                partial(http_ready, settings.host, admin, "/readyz"),
                start_limit=60,
                stop_limit=30,
                environment={
                    PREFIX + "COLLECTOR_ADMIN_PORT": str(admin),
                    PREFIX + "COLLECTOR_PROCESS": str(number),
                },
            )
        )
    return found


def _workers(settings: Settings) -> list[Part]:
    found = []
    for number in range(settings.worker_processes):
        admin = settings.worker_admin_port + ADMIN_STEP * number
        found.append(
            Part(
                f"worker-{number + 1}" if number else "worker",  # it keeps its name when there are more, or fewer
                "worker",
                (sys.executable, "-m", "streams.worker"),
                (Port(settings.host, admin, "the stream worker's health", PREFIX + "WORKER_ADMIN_PORT"),),
                partial(http_ready, settings.host, admin, "/readyz"),
                start_limit=120,
                stop_limit=30,
                environment={PREFIX + "WORKER_ADMIN_PORT": str(admin)},
            )
        )
    return found


def _videos(settings: Settings) -> list[Part]:
    port = settings.video_port
    ports = (Port(settings.host, port, "the video API", PREFIX + "VIDEO_PORT"),)
    ready = partial(http_ready, settings.host, port, "/readyz")
    return [
        Part("videos", "videos", (sys.executable, "-m", "ingest.videos"), ports, ready, start_limit=60, stop_limit=30)
    ]


def _media(settings: Settings) -> list[Part]:
    admin = settings.video_worker_admin_port
    ports = (Port(settings.host, admin, "the media worker's health", PREFIX + "VIDEO_WORKER_ADMIN_PORT"),)
    ready = partial(http_ready, settings.host, admin, "/readyz")
    command = (sys.executable, "-m", "gpu_workers.worker")
    return [Part("media", "media", command, ports, ready, start_limit=60, stop_limit=60)]
