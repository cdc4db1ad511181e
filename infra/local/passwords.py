"""Passwords and the first token of the local stack, made once and kept in files that only their owner may read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from infra.service.settings import PASSWORDS, Settings


def kept(path: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> str:
    """The secret of a file, made where there is none yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
            output.write(make() + "\n")
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
            for name in PASSWORDS
            if not getattr(settings, name).get_secret_value()
        }
    )


def ensure_token(settings: Settings) -> None:
    """Makes a token that may write on the first site, for who tries the video API on this machine. Sites that are kept
    elsewhere are not changed."""
    from infra import sites
    from schemas.packets import Role
    from schemas.sites import load_sites

    first = min(load_sites(settings.sites).by_id, default=None)
    if settings.sites_dir is None and first is not None:
        kept(
            settings.api_token,
            lambda: sites.add_token(settings.sites, first, Role.WRITE, description="made by `up`, kept in a file"),
        )
