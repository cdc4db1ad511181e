"""Who asks, and what they may: bearer tokens (RFC 6750) of the sites' files.

A token that may view reads the jobs of its site; one that may write also makes and deletes them. A superuser's is
valid for all sites.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.service.logs import logger
from ingest.policies import Stamp, stamp_of
from ingest.videos.problems import Problem
from schemas.packets import Role
from schemas.sites import Known, Sites, SitesError, load_sites

log = logger(__name__)

LOOK = 1.0  # seconds between looks at the sites' files
REALM = 'Bearer realm="veilstream"'


@dataclass(frozen=True, slots=True)
class Caller:
    """What a token may: its role by site. A superuser's may all on `sites`, and reads jobs of sites that are gone."""

    roles: Mapping[int, Role]
    superuser: bool
    sites: Collection[int]

    def may(self, site: int, role: Role) -> bool:
        """Whether it has at least this role on a site."""
        return self.superuser or self.roles.get(site, Role.NONE) >= role

    def must(self, role: Role) -> None:
        """Raises Problem unless it has this role anywhere."""
        if not self.superuser and max(self.roles.values()) < role:
            raise forbidden()

    def site(self, asked: int | None) -> int:
        """The site of a new job: the one that is asked for, or the token's only one. Raises Problem."""
        if asked is not None:
            if not self.may(asked, Role.WRITE):
                raise forbidden("site")
            if asked not in self.sites:
                raise Problem(422, "there is no such site", field="site")
            return asked
        writable = list(self.sites) if self.superuser else [n for n, role in self.roles.items() if role >= Role.WRITE]
        if len(writable) == 1:
            return writable[0]
        raise Problem(422, f"the token may write on {len(writable)} sites; name one", field="site")

    def readable(self, asked: int | None) -> list[int] | None:
        """The sites whose jobs are listed; None for all. Raises Problem."""
        if asked is not None:
            if not self.may(asked, Role.VIEW):
                raise forbidden("site")
            return [asked]
        return None if self.superuser else list(self.roles)


class Access:
    """The tokens in force; `watch` keeps them so."""

    def __init__(self, folder: Path) -> None:
        """Raises SitesError."""
        self._folder = folder
        self._known: Known = {}
        self._stamp: Stamp = stamp_of(folder)
        self._sites: Sites = load_sites(folder, self._known)

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this `Authorization` header; raises Problem unless the token is valid somewhere."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Problem(
                401,
                "a token is needed: Authorization: Bearer TOKEN; `veilstream sites token` makes one",
                headers={"WWW-Authenticate": REALM},
            )
        sites = self._sites
        superuser = sites.superuser(token)
        roles = {} if superuser else {number: site.role(token) for number, site in sites.readable(token).items()}
        if not roles and not superuser:
            raise Problem(
                401,
                "the token is unknown or has expired",
                headers={"WWW-Authenticate": f'{REALM}, error="invalid_token"'},
            )
        return Caller(roles, superuser, sites.by_id.keys())

    async def watch(self) -> None:
        """Takes up what changes, for ever; while a file is wrong, what was in force stays so."""
        looked, problem = self._stamp, ""
        while True:
            await asyncio.sleep(LOOK)
            try:
                stamp = await asyncio.to_thread(stamp_of, self._folder)
                if stamp == looked:
                    continue
                looked = stamp
                self._sites = await asyncio.to_thread(load_sites, self._folder, self._known)
                log.info("tokens_in_force", sites=len(self._sites))
                problem = ""
            except (SitesError, OSError) as error:
                if problem != (problem := str(error)):
                    log.error("sites_refused", problem=problem)


def forbidden(field: str = "") -> Problem:
    """The token is valid, but not for this."""
    return Problem(
        403,
        "the token may not do this",
        field=field,
        headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'},
    )
