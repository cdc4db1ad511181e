"""Writes site files; reading and checking them is `schemas.sites`."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schemas.packets import Role
from schemas.sites import (
    DEFAULT_FILE,
    SUPERUSERS_FILE,
    Site,
    SitesError,
    read_site,
    read_superusers,
    token_hash,
)

_section = re.compile(r"^\[tokens\][ \t]*(?:#.*)?$", re.MULTILINE)
_entry = re.compile(r"""^[ \t]*["']?([0-9a-f]{64})["']?[ \t]*=.*\n?""", re.MULTILINE)


def add(
    folder: Path,
    *,
    name: str,
    domains: tuple[str, ...] = (),
    timezone: str = "UTC",
    number: int | None = None,
    main_url: str = "",
) -> Site:
    """Write a new site's file and return the site; raises SitesError where it exists or would be wrong.

    Without a number the site gets the lowest one above all that are there, also when others add sites just now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {"name": name, "domains": list(domains), "timezone": timezone}
    if main_url:
        values["main_url"] = main_url
    draft = folder / f".{os.getpid()}.{secrets.token_hex(8)}"
    _write(draft, "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()))
    try:
        chosen = number or _free(folder)
        try:
            site = read_site(folder, chosen, draft)
        except SitesError as error:
            raise SitesError(str(error).replace(str(draft), f"{folder}/{chosen}.toml")) from None
        while True:
            path = folder / f"{chosen}.toml"
            try:
                os.link(draft, path)  # fails where the file exists: a site is never overwritten
            except FileExistsError:
                if number:
                    raise SitesError(f"{path}: site {number} exists already") from None
                chosen = _free(folder)
                continue
            _sync(folder)
            return Site(chosen, site.name, site.policy, site.tokens, site.expires, site.main_url)
    finally:
        draft.unlink()


def add_token(
    folder: Path, site: int | None, role: Role, *, description: str = "", expires: datetime | None = None
) -> str:
    """Makes a token for a site, or without one for the installation; returns it. Only its hash is kept."""
    token = secrets.token_hex(16)
    entry = [f'role = "{role.name.lower()}"']
    if description:
        entry.append(f"description = {json.dumps(description, ensure_ascii=False)}")
    if expires:
        entry.append(f"expires = {expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    line = f'"{token_hash(token)}" = {{{", ".join(entry)}}}\n'
    with _editing(folder):
        path, text = _text(folder, site)
        if found := _section.search(text):
            end = found.end()
            text = text[:end] + "\n" + line + text[end:].removeprefix("\n")
        else:
            text += ("\n" if text else "") + "[tokens]\n" + line
        _replace(folder, site, path, text)
    return token


def revoke_token(folder: Path, site: int | None, prefix: str) -> str:
    """Takes the token out whose hash begins so; returns the hash. Raises SitesError unless it is exactly one."""
    with _editing(folder):
        path, text = _text(folder, site)
        found = [entry for entry in _entry.finditer(text) if prefix and entry[1].startswith(prefix.lower())]
        if len(found) != 1:
            raise SitesError(f"{path}: {len(found)} tokens have a hash that begins with {prefix!r}; it must be one")
        _replace(folder, site, path, text[: found[0].start()] + text[found[0].end() :])
        return found[0][1]


@contextmanager
def _editing(folder: Path) -> Iterator[None]:
    """One edit of existing files at a time, over all processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _text(folder: Path, site: int | None) -> tuple[Path, str]:
    path = folder / (SUPERUSERS_FILE if site is None else f"{site}.toml")
    try:
        return path, path.read_text("utf-8")
    except FileNotFoundError:
        if site is None:
            return path, ""
        raise SitesError(f"{path}: there is no such site; `veilstream sites list` shows those that are") from None


def _replace(folder: Path, site: int | None, path: Path, text: str) -> None:
    draft = folder / f".{os.getpid()}.{secrets.token_hex(8)}"
    _write(draft, text)
    try:
        try:
            if site is None:
                read_superusers(draft)
            else:
                read_site(folder, site, draft)
        except SitesError as error:
            raise SitesError(str(error).replace(str(draft), str(path))) from None
        os.replace(draft, path)
        _sync(folder)
    finally:
        draft.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free(folder: Path) -> int:
    return max((int(path.stem) for path in folder.glob("*.toml") if path.stem.isdigit()), default=0) + 1


def ensure_default(folder: Path) -> Site | None:
    """Make site 1 in a folder that has no site yet, so that a fresh installation takes events."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(path.name not in (DEFAULT_FILE, SUPERUSERS_FILE) for path in folder.glob("*.toml")):
        return None
    return add(folder, name="My site", number=1)
