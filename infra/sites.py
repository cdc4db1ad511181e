"""Writes site files; reading and checking them is `schemas.sites`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from schemas.sites import DEFAULT_FILE, Site, SitesError, load_sites


def add(
    folder: Path,
    *,
    name: str,
    domains: tuple[str, ...] = (),
    timezone: str = "UTC",
    number: int | None = None,
) -> Site:
    """Write a new site's file and return the site; raises SitesError where it exists or would be wrong.

    Without a number the site gets the lowest one above all that are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = load_sites(folder).by_id
    number = number or max(present, default=0) + 1
    path = folder / f"{number}.toml"
    values = {"name": name, "domains": list(domains), "timezone": timezone}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    draft = folder / f".{number}.{os.getpid()}"
    draft.write_text(text, "utf-8")
    try:
        os.link(draft, path)  # fails where the file exists: a site is never overwritten
    except FileExistsError:
        raise SitesError(f"{path}: site {number} exists already") from None
    finally:
        draft.unlink()
    try:
        return load_sites(folder).by_id[number]
    except SitesError:
        path.unlink()
        raise


def ensure_default(folder: Path) -> Site | None:
    """Make site 1 in a folder that has no site yet, so that a fresh installation takes events."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(path.name != DEFAULT_FILE for path in folder.glob("*.toml")):
        return None
    return add(folder, name="My site", number=1)
