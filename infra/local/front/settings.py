"""Settings of the front: arguments, then environment, then a TOML file, then defaults."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

MEBIBYTE = 1 << 20

#: Environment variables that the whole platform shares, by the field they fill.
SHARED = {
    "user": "VEILSTREAM_CLICKHOUSE_USER",
    "password": "VEILSTREAM_CLICKHOUSE_PASSWORD",
    "dashboard_user": "VEILSTREAM_CLICKHOUSE_DASHBOARD_USER",
    "dashboard_password": "VEILSTREAM_CLICKHOUSE_DASHBOARD_PASSWORD",
    "database": "VEILSTREAM_CLICKHOUSE_DATABASE",
}
PREFIX = "VEILSTREAM_FRONT_"


class SettingsError(Exception):
    """A setting is missing, unknown or out of range; the text names it and says what to do."""


class FrontSettings(BaseModel):
    """Every bound of the front. Sizes are in MiB, times in seconds.

    Of the dashboard user's queries so many run at once, on so many threads each, and others wait for their turn: half
    of the cores are left to inserts, whatever dashboards ask.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    host: str = "127.0.0.1"
    port: int = Field(8123, ge=0, le=65535)
    database: str = Field("veilstream", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    user: str = Field("veilstream", min_length=1)
    password: SecretStr
    dashboard_user: str = Field("dashboard", min_length=1)
    dashboard_password: SecretStr | None = None

    server_memory_mb: int = Field(3072, ge=512)
    query_memory_mb: int = Field(1536, ge=64)
    mark_cache_mb: int = Field(64, ge=1)
    query_seconds: float = Field(300, gt=0)
    dashboard_seconds: float = Field(60, gt=0)

    concurrent_queries: int = Field(32, ge=1)
    dashboard_queries: int = Field(max(1, (os.cpu_count() or 1) // 2), ge=1)
    dashboard_threads: int = Field(1, ge=1)
    connections: int = Field(256, ge=1)
    head_bytes: int = Field(MEBIBYTE + 65536, ge=8192)
    body_mb: int = Field(256, ge=1)
    bodies_mb: int = Field(512, ge=1)
    hold_mb: int = Field(8, ge=1)

    idle_seconds: float = Field(75, gt=0)
    head_seconds: float = Field(15, gt=0)
    stall_seconds: float = Field(30, gt=0)
    body_seconds: float = Field(300, gt=0)
    stop_seconds: float = Field(20, gt=0)

    @field_validator("password", "dashboard_password")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise ValueError("must not be empty")
        return value

    @field_validator("path")
    @classmethod
    def _usable_in_a_connection_string(cls, value: Path) -> Path:
        if "?" in str(value) or "&" in str(value):
            raise ValueError("must not contain '?' or '&', which the engine takes for options")
        return value.absolute()

    @model_validator(mode="after")
    def _two_users(self) -> FrontSettings:
        if self.dashboard_user == self.user:
            raise ValueError("user and dashboard_user must differ")
        return self


def load(
    arguments: dict[str, Any], file: Path | None = None, environment: dict[str, str] | None = None
) -> FrontSettings:
    """Arguments that are None are unset. Raises SettingsError naming the setting and where it can be set."""
    environment = dict(os.environ) if environment is None else environment
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values.update(tomllib.loads(file.read_text()))
        except (OSError, tomllib.TOMLDecodeError) as problem:
            raise SettingsError(f"settings file {file}: {problem}") from None
    for name in FrontSettings.model_fields:
        variable = SHARED.get(name, PREFIX + name.upper())
        if variable in environment:
            values[name] = environment[variable]
    known = {PREFIX + name.upper() for name in FrontSettings.model_fields}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"{variable} is not a setting of the front")
    values.update({name: value for name, value in arguments.items() if value is not None})
    try:
        return FrontSettings(**values)
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "users"
        where = SHARED.get(name, PREFIX + name.upper())
        raise SettingsError(f"setting {name} ({where}): {first['msg']}") from None
