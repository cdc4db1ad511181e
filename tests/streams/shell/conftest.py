"""What the tests of the worker's shell share: an installation with published policies, and its pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from infra.service.vault import Vault, master_keys
from schemas.topics import EVENTS_RAW, SITE_POLICIES
from streams.lookups import Shelf
from streams.pipeline import Pipeline
from streams.policies import Policies
from tests.streams.shell.stream import prepare

MakePipeline = Callable[[], Pipeline]


@pytest.fixture
def world(settings: Settings) -> Settings:
    """Settings of one test with tables, topics and policies."""
    prepare(settings)
    return settings


@pytest.fixture
def client(world: Settings) -> Iterator[Client]:
    """The test's own client of ClickHouse."""
    with connect(world) as opened:
        yield opened


@pytest.fixture
def make_pipeline(world: Settings) -> Iterator[MakePipeline]:
    """Makes pipelines as separate workers would have them, of generation 1, fed by the test instead of by Faust."""
    clients: list[Client] = []

    def make() -> Pipeline:
        opened = connect(world)
        clients.append(opened)
        vault = Vault(opened, master_keys(world.master_key))
        shelf = Shelf(Policies(world.kafka, world.topic(SITE_POLICIES)), vault, world.topic(EVENTS_RAW))
        return Pipeline(opened, world.topic(EVENTS_RAW), 1, shelf)

    yield make
    for opened in clients:
        opened.close()
