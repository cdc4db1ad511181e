"""Writes site files and tokens; reading and checking them is `schemas.sites`.

A file is written beside its place, synced, and put there by one rename: whoever reads finds the old one or the new
one. What people wrote into a file stays as it is, comments included.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from infra.service.files import draft, sync
from schemas.packets import Role
from schemas.sites import (
    DEFAULT_FILE,
    MAX_SITE,
    SUPERUSERS_FILE,
    Site,
    SitesError,
    file_names,
    read_site,
    read_superusers,
)
from schemas.tokens import Token, token_hash

HIGHEST_FILE = ".highest"  # the highest id ever given, so that none is given twice
NEW_MODE = 0o644  # less the umask

T = TypeVar("T")

_section = re.compile(r"^[ \t]*\[[ \t]*tokens[ \t]*\][ \t]*(?:#.*)?$", re.MULTILINE)
_entry = re.compile(r"""^[ \t]*["']?([0-9a-f]{64})["']?[ \t]*=.*\n?""", re.MULTILINE)


def add(
    folder: Path,
    *,
    name: str,
    domains: tuple[str, ...] = (),
    timezone: str = "",
    number: int | None = None,
    main_url: str = "",
    privacy: Mapping[str, str] | None = None,
) -> Site:
    """Write a new site's file and return the site; raises SitesError where it exists or would be wrong.

    What is not given is as `default.toml` says.

    Without a number the site gets the one above all that ever were, also when other processes add sites just now.
    """
    values = {"name": name, "domains": list(domains), "timezone": timezone, "main_url": main_url}
    text = _lines(values)
    if privacy:
        text += f"\n[privacy]\n{_lines(privacy)}"
    with _editing(folder):
        highest = _highest(folder)
        chosen = highest + 1 if number is None else number
        if not 1 <= chosen <= MAX_SITE:
            raise SitesError(f"{folder}: a site's id must be from 1 to {MAX_SITE}, not {chosen}")
        path = folder / f"{chosen}.toml"
        with draft(path, text.encode(), NEW_MODE) as made:
            site = _checked(path, made, lambda: read_site(folder, chosen, made))
            if chosen > highest:
                with draft(folder / HIGHEST_FILE, b"%d\n" % chosen, NEW_MODE) as counter:
                    os.replace(counter, folder / HIGHEST_FILE)
            try:
                os.link(made, path)  # fails where the file exists: a site is never overwritten
            except FileExistsError:
                raise SitesError(f"{path}: site {chosen} exists already") from None
        sync(folder)
        return site


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items() if value)


def add_token(
    folder: Path, site: int | None, role: Role, *, description: str = "", expires: datetime | None = None
) -> str:
    """Makes a token for a site, or without one for the installation; returns it. Only its hash is kept.

    Superusers' tokens that have expired are taken out on the way, for clients ask for a new one each time they start.
    """
    token = secrets.token_hex(16)
    digest = token_hash(token)
    entry = [f"role = {_toml(role.name.lower())}"]
    if description:
        entry.append(f"description = {_toml(description)}")
    if expires:
        entry.append(f"expires = {expires.astimezone(UTC).isoformat(timespec='seconds')}")
    line = f'"{digest}" = {{{", ".join(entry)}}}\n'
    with _editing(folder):
        path, text, before = _tokens(folder, site)
        dead = _expired(before) if site is None else frozenset[str]()
        text = _entry.sub(lambda found: "" if found[1] in dead else found[0], text)
        if found := _section.search(text):
            text = text[: found.end()] + "\n" + line + text[found.end() :].removeprefix("\n")
        else:
            text += ("\n" if text else "") + "[tokens]\n" + line
        _replace(folder, site, path, text, before.keys() - dead | {digest})
    return token


def revoke_token(folder: Path, site: int | None, prefix: str) -> str:
    """Takes the token out whose hash begins so; returns the hash. Raises SitesError unless it is exactly one."""
    with _editing(folder):
        path, text, before = _tokens(folder, site)
        found = [digest for digest in before if prefix and digest.startswith(prefix.lower())]
        if len(found) != 1:
            raise SitesError(f"{path}: {len(found)} tokens have a hash that begins with {prefix!r}; it must be one")
        text = _entry.sub(lambda entry: "" if entry[1] == found[0] else entry[0], text)
        _replace(folder, site, path, text, before.keys() - set(found))
        return found[0]


def ensure_default(folder: Path) -> Site | None:
    """Make site 1 in a folder that has no site yet, so that a fresh installation takes events."""
    folder.mkdir(parents=True, exist_ok=True)
    if set(file_names(folder)) - {DEFAULT_FILE, SUPERUSERS_FILE}:
        return None
    return add(folder, name="My site", number=1)


def _toml(value: object) -> str:
    """A text or a list of texts; JSON writes them as TOML does, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@contextmanager
def _editing(folder: Path) -> Iterator[None]:
    """One writer at a time, over all processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, NEW_MODE), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _highest(folder: Path) -> int:
    present = [int(stem) for name in file_names(folder) if (stem := name.removesuffix(".toml")).isdecimal()]
    with contextlib.suppress(FileNotFoundError, ValueError):
        present.append(int((folder / HIGHEST_FILE).read_text("ascii")))
    return max(present, default=0)


def _tokens(folder: Path, site: int | None) -> tuple[Path, str, Mapping[str, Token]]:
    path = folder / (SUPERUSERS_FILE if site is None else f"{site}.toml")
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if site is None:
            return path, "", {}
        raise SitesError(f"{path}: there is no such site; `veilstream sites list` shows those that are") from None
    except UnicodeDecodeError:
        raise SitesError(f"{path}: is not UTF-8") from None
    return path, text, read_superusers(path) if site is None else read_site(folder, site, path).tokens


def _expired(tokens: Mapping[str, Token]) -> frozenset[str]:
    now = time.time()
    return frozenset(digest for digest, token in tokens.items() if token.expires is not None and token.expires <= now)


def _replace(folder: Path, site: int | None, path: Path, text: str, expected: set[str]) -> None:
    with draft(path, text.encode(), NEW_MODE) as made:

        def read() -> Mapping[str, Token]:
            return read_superusers(made) if site is None else read_site(folder, site, made).tokens

        try:
            done = _checked(path, made, read).keys() == expected
        except SitesError:
            done = False  # what was there could be read, so it is written in a way that this cannot edit
        if not done:
            raise SitesError(
                f"{path}: tokens must stand below a line [tokens], a line each, to be changed by a command"
            )
        with contextlib.suppress(FileNotFoundError):
            before = path.stat()
            os.chmod(made, before.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.chown(made, before.st_uid, before.st_gid)
        os.replace(made, path)
    sync(folder)


def _checked(path: Path, draft: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except SitesError as error:
        raise SitesError(*(problem.replace(str(draft), str(path)) for problem in error.problems)) from None
