"""Sites and their privacy policies: one file `<id>.toml` per site over `default.toml`, all in one folder.

    name = "Shop"                        # shown to people
    domains = ["shop.example"]           # hosts whose referrers are internal
    timezone = "Europe/Berlin"           # the site's days begin and end by it
    shards = 1                           # more than 1 for a giant site only

    [tokens]                             # sha256 of a token, in hex -> role
    "5e88...42d8" = "write"

    [privacy]
    preset = "no-personal-data"          # and any rule of `schemas.privacy`

`default.toml` takes the same keys but `name`, `domains` and `tokens`. Loading is all or nothing: one wrong
file and `SitesError` names it, so that what was in force before stays in force.

What workers must know of a site is its `SitePolicy`; the policies of all sites at one moment are a
`PolicySet`, named by the hash of its canonical form. It holds no token and no name.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schemas.packets import Role
from schemas.privacy import Privacy, PrivacyError, resolve

DEFAULT_FILE = "default.toml"
MAX_SITE = 2**32 - 1

_host = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?").fullmatch
_token = re.compile(r"[0-9a-f]{64}").fullmatch


class SitesError(ValueError):
    """A site's file is wrong; the message names the file, the key and what is expected."""


class SitePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides how the events of one site are treated. Lists are sorted, so that equal means equal bytes."""

    timezone: str = "UTC"
    domains: tuple[str, ...] = ()
    shards: int = 1
    privacy: Privacy = Privacy()


class Site(msgspec.Struct, frozen=True):
    """A site as its file describes it; `tokens` maps the sha256 of a token, in hex, to its role.

    `privacy_from`: by privacy rule, where its value is from.
    """

    id: int
    name: str
    policy: SitePolicy
    tokens: dict[str, Role]
    privacy_from: dict[str, str] = {}

    def role(self, token: str) -> Role:
        """What this token may do here; NONE when it is not one of the site's."""
        return self.tokens.get(token_hash(token), Role.NONE)


def token_hash(token: str) -> str:
    """How a token is written in a site's file."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class PolicySet:
    """The policies of all sites at one moment. `version`: 16 bytes, hash of the canonical form."""

    def __init__(self, sites: Mapping[int, SitePolicy]) -> None:
        self.sites: Mapping[int, SitePolicy] = MappingProxyType(dict(sorted(sites.items())))

    def of(self, site: int) -> SitePolicy | None:
        """The policy of a site, or None where it is unknown."""
        return self.sites.get(site)

    @cached_property
    def canonical(self) -> bytes:
        """JSON with sites by rising id and fields in the order of `SitePolicy`."""
        return msgspec.json.encode({str(site): policy for site, policy in self.sites.items()})

    @cached_property
    def version(self) -> bytes:
        """16 bytes that name this set in packets and rows."""
        return hashlib.blake2b(self.canonical, digest_size=16).digest()

    def dump(self) -> bytes:
        """The value of the record on `site.policies`; its key is the version in hex."""
        return self.canonical

    @classmethod
    def load(cls, data: bytes) -> PolicySet:
        """The set of a record's value; raises SitesError when it is not one."""
        try:
            sites = msgspec.json.decode(data, type=dict[int, SitePolicy])
        except msgspec.DecodeError as error:
            raise SitesError(f"record is not a set of policies: {error}") from None
        return cls(sites)


class Sites:
    """All sites of an installation, as loaded at one moment."""

    def __init__(self, sites: Mapping[int, Site]) -> None:
        self.by_id: Mapping[int, Site] = MappingProxyType(dict(sorted(sites.items())))
        self.policies = PolicySet({site.id: site.policy for site in self.by_id.values()})

    def of(self, site: int) -> Site | None:
        """The site, or None where it is unknown."""
        return self.by_id.get(site)

    def __len__(self) -> int:
        return len(self.by_id)


class _Default(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    timezone: str | None = None
    shards: int | None = None
    privacy: dict[str, Any] = {}


class _File(_Default, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    domains: list[str] = []
    tokens: dict[str, str] = {}


_D = TypeVar("_D", bound=_Default)


def load_sites(folder: Path) -> Sites:
    """All sites of the folder; raises SitesError naming the first file that is wrong."""
    if not folder.is_dir():
        raise SitesError(f"{folder}: there is no such folder; `veilstream sites add` makes it")
    default = _Default()
    if (path := folder / DEFAULT_FILE).is_file():
        default = _read(path, _Default)
    sites = {}
    for path in sorted(folder.glob("*.toml")):
        if path.name == DEFAULT_FILE:
            continue
        if not path.stem.isdigit() or not 1 <= int(path.stem) <= MAX_SITE or path.stem[0] == "0":
            raise SitesError(f"{path}: the file's name must be a site's id, 1 to {MAX_SITE}, or {DEFAULT_FILE}")
        site = _site(path, int(path.stem), default)
        sites[site.id] = site
    return Sites(sites)


def _read(path: Path, kind: type[_D]) -> _D:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
        return msgspec.convert(data, kind)
    except OSError as error:
        raise SitesError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SitesError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SitesError(f"{path}: is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise SitesError(f"{path}: {error}") from None


def _site(path: Path, number: int, default: _Default) -> Site:
    file = _read(path, _File)

    def wrong(key: str, expected: str) -> SitesError:
        return SitesError(f"{path}: {key} {expected}")

    timezone = file.timezone or default.timezone or "UTC"
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise wrong("timezone", "must be a name of the IANA time zone database, such as Europe/Berlin") from None
    domains = sorted({domain.lower() for domain in file.domains})
    for domain in domains:
        if not _host(domain):
            raise wrong("domains", "must be host names, such as www.shop.example or *.shop.example")
    shards = next((n for n in (file.shards, default.shards) if n is not None), 1)
    if not 1 <= shards <= 1024:
        raise wrong("shards", "must be from 1 to 1024")
    try:
        privacy, sources = resolve({path.name: file.privacy, DEFAULT_FILE: default.privacy})
    except PrivacyError as error:
        raise SitesError(f"{path}: {error}") from None
    tokens = {}
    for digest, role in file.tokens.items():
        if not _token(digest):
            raise wrong("tokens", "must be named by the sha256 of the token, 64 hex digits")
        if role.upper() not in Role.__members__ or role.upper() == "NONE":
            raise wrong("tokens", "must have the role view, write, admin or superuser")
        tokens[digest] = Role[role.upper()]
    policy = SitePolicy(
        timezone=timezone,
        domains=tuple(domains),
        shards=shards,
        privacy=privacy,
    )
    return Site(number, file.name or f"Site {number}", policy, tokens, sources)
