"""The local Kafka broker: one node that is broker and controller (KRaft), on loopback only, one JVM.

Its jars are fetched by `./run` from the pom beside this file.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[3]
LIBS = TOP / ".veilstream/kafka/libs"
HOST = "127.0.0.1"
HEAP = "512m"
LARGEST_RECORD = 8 << 20  # bytes
LOGGING = Path(__file__).with_name("log4j2.properties")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners={listeners}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocols}
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={largest}
replica.fetch.max.bytes={largest}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# A broker that was killed is taken back when its old session has ended.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
log.retention.check.interval.ms=60000
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """Another port that the broker listens on, and the one that it tells its clients: that of a proxy before it."""

    name: str
    port: int
    advertised: int


class KafkaError(Exception):
    """The broker cannot be prepared; the message says why."""


def prepare(folder: Path, *, port: int, controller_port: int, listeners: Sequence[Listener] = ()) -> Path:
    """Writes server.properties into `folder` and formats the data folder once; returns the file.

    Formatting happens in a draft that is renamed, so data is either formatted or not there. Raises KafkaError.
    """
    if not any(LIBS.glob("kafka_2.13-*.jar")):
        raise KafkaError(f"Kafka's jars are not in {LIBS}; ./run prepare fetches them")
    folder.mkdir(parents=True, exist_ok=True)
    data, properties = folder / "data", folder / "server.properties"
    clients = [Listener("PLAINTEXT", port, port), *listeners]
    names = [*(client.name for client in clients), "CONTROLLER"]
    ports = [*(client.port for client in clients), controller_port]

    def write(path: Path, logs: Path) -> None:
        text = PROPERTIES.format(
            host=HOST,
            controller_port=controller_port,
            listeners=",".join(f"{name}://{HOST}:{number}" for name, number in zip(names, ports, strict=True)),
            advertised=",".join(f"{client.name}://{HOST}:{client.advertised}" for client in clients),
            protocols=",".join(f"{name}:PLAINTEXT" for name in names),
            data=logs,
            largest=LARGEST_RECORD,
        )
        path.write_text(text.replace("\\", "\\\\"))

    if not data.exists():
        draft, draft_properties = folder / "data.new", folder / "format.properties"
        shutil.rmtree(draft, ignore_errors=True)
        write(draft_properties, draft)
        _format(draft_properties)
        draft.rename(data)
        draft_properties.unlink()
    write(properties, data)
    return properties


def _java(*options: str) -> list[str]:
    return ["java", *options, f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{LIBS}/*"]


def _tool(*arguments: str) -> None:
    command = [*_java("-XX:TieredStopAtLevel=1", "-Xmx128m"), "kafka.tools.StorageTool", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise KafkaError(f"java: {error.strerror}; ./run prepare installs it") from None
    if done.returncode:
        raise KafkaError(f"the broker's storage cannot be formatted: {' '.join((done.stdout + done.stderr).split())}")


def _format(properties: Path) -> None:
    # As Kafka's own tool makes it, which takes a JVM for it.
    cluster = "-"
    while cluster.startswith("-"):
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    _tool("format", "-t", cluster, "-c", str(properties))


def command(properties: Path) -> list[str]:
    """The command line of the broker."""
    heap = (f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+ExitOnOutOfMemoryError", "-XX:MaxGCPauseMillis=20")
    return [*_java(*heap, "-Djava.awt.headless=true"), "kafka.Kafka", str(properties)]
