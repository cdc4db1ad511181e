"""Migrations on the real engine: they apply once, resume, refuse what does not fit, and agree with Arrow."""

from __future__ import annotations

import pytest

from infra import migrate, topics
from infra.service.settings import Settings
from schemas.migrations import migrations
from schemas.tables import EVENTS, HEATMAP, PACKETS, RECORDINGS, REJECTS, sql_type
from schemas.video_tables import VIDEO_JOBS_TABLE


def test_apply_once(settings: Settings) -> None:
    with migrate.open_database(settings) as client:
        assert [m.number for m in migrate.apply(client)] == [m.number for m in migrations()]
        assert migrate.apply(client) == []
        assert all(state.applied for state in migrate.status(client))


def test_a_migration_that_was_cut_off_is_taken_up_again(settings: Settings) -> None:
    with migrate.open_database(settings) as client:
        client.command(migrations()[1].statements[0])
        migrate.apply(client)
        assert all(state.applied for state in migrate.status(client))


def test_a_database_of_a_newer_version_is_refused(settings: Settings) -> None:
    with migrate.open_database(settings) as client:
        migrate.apply(client)
        client.command("INSERT INTO migrations (number, name, checksum) VALUES (9999, 'later', '')")
        with pytest.raises(migrate.MigrationError, match="newer version"):
            migrate.apply(client)


def test_a_changed_migration_is_refused(settings: Settings) -> None:
    with migrate.open_database(settings) as client:
        migrate.apply(client)
        client.command("TRUNCATE TABLE migrations")
        client.command("INSERT INTO migrations (number, name, checksum) VALUES (1, 'events', 'other')")
        with pytest.raises(migrate.MigrationError, match="changed"):
            migrate.status(client)


@pytest.mark.parametrize(
    ("table", "schema"),
    [
        ("events", EVENTS),
        ("packets", PACKETS),
        ("rejects", REJECTS),
        ("recordings", RECORDINGS),
        ("heatmap", HEATMAP),
        ("video_jobs", VIDEO_JOBS_TABLE),
    ],
)
def test_tables_have_the_columns_of_the_arrow_schemas(installation: Settings, table: str, schema: object) -> None:
    with migrate.open_database(installation) as client:
        described = client.query(f"DESCRIBE TABLE {table}").result_rows
    columns = [tuple(row[:2]) for row in described if row[2] != "ALIAS"]
    assert columns == [(field.name, sql_type(field.type)) for field in schema]  # type: ignore[attr-defined]


def test_no_key_holds_a_column_that_may_change(installation: Settings) -> None:
    """Erasure and re-keying change these columns, and the engine refuses to change a column of a key."""
    with migrate.open_database(installation) as client:
        ((partition, sorting, sampling),) = client.query(
            "SELECT partition_key, sorting_key, sampling_key FROM system.tables "
            "WHERE database = currentDatabase() AND name = 'events'"
        ).result_rows
        for column in ("visitor_id", "config_id", "user_id", "order_id", "address", "url"):
            client.command(f"ALTER TABLE events UPDATE {column} = {column} WHERE 0 SETTINGS mutations_sync = 1")
        client.command("DELETE FROM events WHERE site_id = 1")
    assert (partition, sorting, sampling) == ("toYYYYMM(time)", "site_id, time", "")


def test_topics_are_made_once_and_leave_no_personal_data_behind(settings: Settings) -> None:
    made = topics.ensure(settings)
    assert made == [topic.name for topic in topics.wanted(settings)]
    assert topics.ensure(settings) == []
    for topic in topics.wanted(settings):
        if topic.personal:
            assert topic.config["message.timestamp.type"] == "LogAppendTime"
            assert int(topic.config["segment.ms"]) * 10 < int(topic.config["retention.ms"])
