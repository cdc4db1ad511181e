"""Passwords of the local stack, made once and kept in files that only their owner may read."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from infra.service.settings import SECRETS, Settings


def kept(path: Path) -> str:
    """The password of a file, made where there is none yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
            output.write(secrets.token_urlsafe(24) + "\n")
        with suppress(FileExistsError):  # another process was first, its password holds
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


def with_passwords(settings: Settings) -> Settings:
    """The settings with passwords of the embedded engine filled in; those that are set stay as they are."""
    if settings.clickhouse_url:
        return settings
    return settings.model_copy(
        update={
            name: SecretStr(kept(settings.password_file(name)))
            for name in SECRETS
            if not getattr(settings, name).get_secret_value()
        }
    )
