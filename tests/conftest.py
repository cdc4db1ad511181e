"""What tests share: one real broker and one real engine per test process, unique topics and database per test.

`./run test` runs a process a core, and all tests of a file in one of them; plain pytest runs one after another.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from infra.local.stack import Stack, isolated, new_ports
from infra.service.clickhouse import connect
from infra.service.settings import Settings
from tests.databases import install
from tests.gateway import Gateway, running
from tests.services import Service, Services

hypothesis.settings.register_profile("shared", suppress_health_check=[hypothesis.HealthCheck.too_slow], deadline=None)
hypothesis.settings.load_profile("shared")  # machines are shared: how long a draw takes says nothing

# Brokers of tests live for seconds: half of what they cost is what the second compiler does.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

SettingsMaker = Callable[..., Settings]
Starter = Callable[..., Service]


# Where tests take long: first, so that the short ones fill the gaps at the end.
FIRST = ("streams/shell", "gpu_workers", "ingest", "infra", "fault", "streams/core")
LOG_LINES = 200  # of each service's log, below the report of a test that failed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the folders that take longest first; within a folder the order stays."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        return next((n for n, name in enumerate(FIRST) if item.path.is_relative_to(here / name)), len(FIRST))

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the ends of what a failed test's services have logged, as the folder is soon gone."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "call" and report.failed and folder is not None:
        for log in sorted(folder.glob("*.log")):
            end = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            report.sections.append((f"end of {log.name}", "\n".join(end)))
    return report


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Kafka broker and the front over the embedded engine, for as long as this test process runs."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(isolated(folder), ["kafka", "front"], owned=True) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The shared stack, whole again whatever an earlier test did to it."""
    shared_stack.start()
    return shared_stack


@pytest.fixture
def make_settings(stack: Stack, tmp_path: Path) -> Iterator[SettingsMaker]:
    """Makes settings on the stack, with topics, database, state folder and service ports of their own.

    All settings of one test share topics and database; state folder and ports are new with every call.
    """
    name = f"t{secrets.token_hex(6)}"
    made: list[Settings] = []

    def make(**overrides: Any) -> Settings:
        base = stack.settings
        shared = ("kafka_port", "kafka_controller_port", "clickhouse_port")
        ports = {name: port for name, port in new_ports().items() if name not in shared}
        values: dict[str, Any] = {
            "state": tmp_path / f"state{len(made)}",
            "topic_prefix": f"{name}.",
            "events_partitions": 4,
            "clickhouse_database": name,
            **ports,
            **overrides,
        }
        made.append(base.model_copy(update=values))
        made[-1].state.mkdir(parents=True, exist_ok=True)
        return made[-1]

    yield make
    if made and made[0].clickhouse == stack.settings.clickhouse and stack.running():
        with connect(stack.settings, database="default") as client:
            for database in {settings.clickhouse_database for settings in made}:
                client.command(f"DROP DATABASE IF EXISTS {database}")


@pytest.fixture
def settings(make_settings: SettingsMaker) -> Settings:
    """Settings of one test; tables and topics are not made yet."""
    return make_settings()


@pytest.fixture
def installation(settings: Settings) -> Settings:
    """Settings of one test whose tables, secrets, topics and default site are there."""
    install(settings)
    return settings


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Starts services; whatever runs at the end of the test is killed."""
    started = Services(tmp_path)
    yield started
    started.end()


@pytest.fixture
def start_collector(services: Services) -> Starter:
    """`start_collector(settings, wait=True)` starts a collector process."""

    def start(settings: Settings, *, wait: bool = True) -> Service:
        return services.start("collector", settings, wait=wait)

    return start


@pytest.fixture
def start_worker(services: Services) -> Starter:
    """`start_worker(settings, wait=True)` starts a stream worker process."""

    def start(settings: Settings, *, wait: bool = True) -> Service:
        return services.start("worker", settings, wait=wait)

    return start


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server of S3's protocol, for as long as this test process runs."""
    with running(tmp_path_factory.mktemp("gateway")) as found:
        yield found


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable}={value} is not a folder")
    return path


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of shared test vectors."""
    return _folder("VEILSTREAM_TEST_VECTORS")


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of shared test videos."""
    return _folder("VEILSTREAM_TEST_MEDIA")
