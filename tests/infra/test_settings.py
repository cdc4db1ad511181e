"""Settings: where they come from, and that a wrong one stops the process and is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.service.settings import SettingsError, load_settings


def test_environment_goes_before_file_before_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "veilstream.toml"
    file.write_text("collector_port = 1000\nworker_admin_port = 1001\n")
    monkeypatch.setenv("VEILSTREAM_CONFIG", str(file))
    monkeypatch.setenv("VEILSTREAM_COLLECTOR_PORT", "2000")
    settings = load_settings()
    assert (settings.collector_port, settings.worker_admin_port, settings.kafka_port) == (2000, 1001, 9092)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VEILSTREAM_COLLECTOR_PORT", "70000"),
        ("VEILSTREAM_COLLECTOR_PORT", "http"),
        ("VEILSTREAM_KAFKA", "localhost"),
        ("VEILSTREAM_CLICKHOUSE_URL", "localhost:8123"),
        ("VEILSTREAM_CLICKHOUSE_DATABASE", "a; DROP"),
        ("VEILSTREAM_FLUSH_MIN_MS", "-1"),
        ("VEILSTREAM_VIDEO_OPEN", "health,jobs"),
        ("VEILSTREAM_OUTBOUND_SCHEMES", "https,file"),
        ("VEILSTREAM_OUTBOUND_PORTS", "443,0"),
        ("VEILSTREAM_VIDEO_STORAGE", "/mnt/videos"),
        ("VEILSTREAM_S3_ENDPOINT", "minio:9000"),
        ("VEILSTREAM_COLECTOR_PORT", "8080"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_settings_that_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILSTREAM_MIN_INSYNC_REPLICAS", "2")
    with pytest.raises(SettingsError, match="min_insync_replicas"):
        load_settings()


def test_an_unknown_key_of_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "veilstream.toml"
    file.write_text("colector_port = 1\n")
    monkeypatch.setenv("VEILSTREAM_CONFIG", str(file))
    with pytest.raises(SettingsError, match="COLECTOR_PORT"):
        load_settings()
    monkeypatch.setenv("VEILSTREAM_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="no such file"):
        load_settings()


def test_a_secret_may_come_from_a_file_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    monkeypatch.setenv("VEILSTREAM_CLICKHOUSE_PASSWORD_FILE", str(file))
    settings = load_settings()
    assert settings.clickhouse_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_children_get_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(collector_port=1234, topic_prefix="t.", clickhouse_password="x y")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
