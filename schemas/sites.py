"""Sites and their privacy policies: one file `<id>.toml` per site over `default.toml`, all in one folder.

    name = "Shop"                        # shown to people
    domains = ["shop.example"]           # hosts whose referrers are internal
    timezone = "Europe/Berlin"           # the site's days begin and end by it
    shards = 1                           # more than 1 for a giant site only

    [tokens]                             # sha256 of a token, in hex -> role
    "5e88...42d8" = "write"
    "9f86...0a08" = {role = "view", description = "report", expires = 2027-01-31T00:00:00Z}

    [privacy]
    mask_bytes = 2                       # 0 to 4 bytes of an IPv4 address (IPv6: to 64, 48, 24, 0 bits)
    excluded_parameters = ["customer"]   # URL parameters removed, beside the default ones
    keep_fragment = false
    search_parameters = ["q"]            # URL parameters that hold a site search

`superusers.toml` holds only `[tokens]`: superusers of the installation, valid for all sites. `main_url` of a site is
the address that clients of the reporting API are told; default: https:// and its first domain.

`default.toml` takes the same keys but `name`, `domains` and `tokens`. Loading is all or nothing: one wrong
file and `SitesError` names it, so that what was in force before stays in force.

What workers must know of a site is its `SitePolicy`; the policies of all sites at one moment are a
`PolicySet`, named by the hash of its canonical form. It holds no token and no name.
"""

from __future__ import annotations

import hashlib
import re
import time
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schemas.packets import Role

DEFAULT_FILE = "default.toml"
SUPERUSERS_FILE = "superusers.toml"
MAX_SITE = 2**32 - 1

# Matomo's list of parameters that no report needs: click ids and sessions.
EXCLUDED_PARAMETERS = frozenset(
    [
        "gclid",
        "fbclid",
        "msclkid",
        "twclid",
        "wbraid",
        "gbraid",
        "yclid",
        "fb_xd_fragment",
        "fb_comment_id",
        "phpsessid",
        "jsessionid",
        "sessionid",
        "aspsessionid",
        "doing_wp_cron",
        "sid",
        "pk_vid",
        "ignore_referrer",
        "ignore_referer",
    ]
)
SEARCH_PARAMETERS = frozenset({"q", "query", "s", "search", "searchword", "k", "keyword"})

_host = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?").fullmatch
_token = re.compile(r"[0-9a-f]{64}").fullmatch


class SitesError(ValueError):
    """A site's file is wrong; the message names the file, the key and what is expected."""


class SitePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides how the events of one site are treated. Lists are sorted, so that equal means equal bytes."""

    timezone: str = "UTC"
    domains: tuple[str, ...] = ()
    shards: int = 1
    mask_bytes: int = 2
    excluded_parameters: tuple[str, ...] = ()  # beside EXCLUDED_PARAMETERS; lower case
    keep_fragment: bool = False
    search_parameters: tuple[str, ...] = tuple(sorted(SEARCH_PARAMETERS))

    @property
    def excluded(self) -> frozenset[str]:
        """All URL parameters that are removed, in lower case."""
        return EXCLUDED_PARAMETERS.union(self.excluded_parameters)


class Site(msgspec.Struct, frozen=True):
    """A site as its file describes it; `tokens` maps the sha256 of a token, in hex, to its role."""

    id: int
    name: str
    policy: SitePolicy
    tokens: dict[str, Role]
    expires: dict[str, float] = {}  # token's hash -> seconds since 1970 from which it counts no more
    main_url: str = ""

    def role(self, token: str) -> Role:
        """What this token may do here; NONE when it is not one of the site's."""
        return role_of(self.tokens, self.expires, token)


def role_of(tokens: Mapping[str, Role], expires: Mapping[str, float], token: str) -> Role:
    """What a token may do; NONE when it is unknown or has expired. Looked up by hash, so no timing tells a token."""
    digest = token_hash(token)
    role = tokens.get(digest, Role.NONE)
    if role and digest in expires and time.time() >= expires[digest]:
        return Role.NONE
    return role


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

    def __init__(
        self,
        sites: Mapping[int, Site],
        superusers: Mapping[str, Role] | None = None,
        expires: Mapping[str, float] | None = None,
    ) -> None:
        """`superusers`, `expires`: the tokens of `superusers.toml`."""
        self.superusers: dict[str, Role] = dict(superusers or {})
        self.expires: dict[str, float] = dict(expires or {})
        for site in sites.values():
            for digest, role in site.tokens.items():
                if role is Role.SUPERUSER:
                    self.superusers[digest] = role
                    if digest in site.expires:
                        self.expires[digest] = site.expires[digest]
        self.by_id: Mapping[int, Site] = MappingProxyType(dict(sorted(sites.items())))
        self.policies = PolicySet({site.id: site.policy for site in self.by_id.values()})

    def of(self, site: int) -> Site | None:
        """The site, or None where it is unknown."""
        return self.by_id.get(site)

    def superuser(self, token: str) -> bool:
        """Whether a token is valid for all sites."""
        return role_of(self.superusers, self.expires, token) is Role.SUPERUSER

    def role(self, site: Site, token: str) -> Role:
        """What a token may do on a site, superusers of the installation included."""
        return Role.SUPERUSER if self.superuser(token) else site.role(token)

    def __len__(self) -> int:
        return len(self.by_id)


class _Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mask_bytes: int | None = None
    excluded_parameters: list[str] | None = None
    keep_fragment: bool | None = None
    search_parameters: list[str] | None = None


class _TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: str
    description: str = ""
    expires: datetime | None = None


class _Default(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    timezone: str | None = None
    shards: int | None = None
    privacy: _Privacy = _Privacy()


class _File(_Default, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    domains: list[str] = []
    main_url: str = ""
    tokens: dict[str, str | _TokenEntry] = {}


class _Superusers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: dict[str, str | _TokenEntry] = {}


_D = TypeVar("_D", bound=msgspec.Struct)


Read = dict[str, tuple[object, Site]]


def load_sites(folder: Path, read: Read | None = None) -> Sites:
    """All sites of the folder; raises SitesError naming the first file that is wrong.

    `read` keeps what was read between calls: only files whose time, size or inode changed are read again.
    """
    known = {} if read is None else read
    if not folder.is_dir():
        raise SitesError(f"{folder}: there is no such folder; `veilstream sites add` makes it")
    default = _Default()
    if (path := folder / DEFAULT_FILE).is_file():
        default = _read(path, _Default)
    sites = {}
    for path in sorted(folder.glob("*.toml")):
        if path.name in (DEFAULT_FILE, SUPERUSERS_FILE):
            continue
        if not path.stem.isdigit() or not 1 <= int(path.stem) <= MAX_SITE or path.stem[0] == "0":
            raise SitesError(f"{path}: the file's name must be a site's id, 1 to {MAX_SITE}, or {DEFAULT_FILE}")
        try:
            status = path.stat()
        except OSError as error:
            raise SitesError(f"{path}: {error.strerror}") from None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino, default)
        kept = known.get(path.name)
        site = kept[1] if kept and kept[0] == stamp else _site(path, int(path.stem), default)
        known[path.name] = (stamp, site)
        sites[site.id] = site
    for gone in known.keys() - {f"{number}.toml" for number in sites}:
        del known[gone]
    if (path := folder / SUPERUSERS_FILE).is_file():
        return Sites(sites, *read_superusers(path))
    return Sites(sites)


def read_site(folder: Path, number: int, path: Path) -> Site:
    """The site that a file would be, over the folder's defaults; raises SitesError."""
    default = folder / DEFAULT_FILE
    return _site(path, number, _read(default, _Default) if default.is_file() else _Default())


def read_superusers(path: Path) -> tuple[dict[str, Role], dict[str, float]]:
    """The tokens of `superusers.toml` and when they end; raises SitesError."""
    superusers, expires = _tokens(path, _read(path, _Superusers).tokens)
    if any(role is not Role.SUPERUSER for role in superusers.values()):
        raise SitesError(f"{path}: tokens must have the role superuser")
    return superusers, expires


def _tokens(path: Path, found: Mapping[str, str | _TokenEntry]) -> tuple[dict[str, Role], dict[str, float]]:
    tokens: dict[str, Role] = {}
    expires: dict[str, float] = {}
    for digest, token in found.items():
        role = token if isinstance(token, str) else token.role
        if not _token(digest):
            raise SitesError(f"{path}: tokens must be named by the sha256 of the token, 64 hex digits")
        if role.upper() not in Role.__members__ or role.upper() == "NONE":
            raise SitesError(f"{path}: tokens must have the role view, write, admin or superuser")
        tokens[digest] = Role[role.upper()]
        if isinstance(token, _TokenEntry) and token.expires is not None:
            if token.expires.tzinfo is None:
                raise SitesError(f"{path}: tokens: expires must have an offset, such as 2027-01-31T00:00:00Z")
            expires[digest] = token.expires.timestamp()
    return tokens, expires


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

    def pick(name: str, fallback: Any) -> Any:
        for source in (file.privacy, default.privacy):
            if (value := getattr(source, name)) is not None:
                return value
        return fallback

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
    mask_bytes = pick("mask_bytes", 2)
    if not 0 <= mask_bytes <= 4:
        raise wrong("privacy.mask_bytes", "must be from 0 to 4")
    tokens, expires = _tokens(path, file.tokens)
    if file.main_url and not file.main_url.startswith(("http://", "https://")):
        raise wrong("main_url", "must begin with http:// or https://")
    policy = SitePolicy(
        timezone=timezone,
        domains=tuple(domains),
        shards=shards,
        mask_bytes=mask_bytes,
        excluded_parameters=_names(pick("excluded_parameters", ())),
        keep_fragment=pick("keep_fragment", False),
        search_parameters=_names(pick("search_parameters", SEARCH_PARAMETERS)),
    )
    return Site(number, file.name or f"Site {number}", policy, tokens, expires, file.main_url)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name.lower() for name in names}))
