"""Sites and their privacy policies: one file `<id>.toml` per site over `default.toml`, all in one folder.

    name = "Shop"                        # shown to people
    domains = ["shop.example"]           # the site's own hosts, perhaps with a path: "shop.example/en"
    goals = [1, 2]                       # ids of its goals; others are refused (none named: all are taken)
    timezone = "Europe/Berlin"           # the site's days begin and end by it
    shards = 1                           # more than 1 for a giant site only
    repeat_seconds = 900                 # what is sent again within so many seconds is dropped, at most 3600; 0: never

    [tokens]                             # sha256 of a token, in hex -> role
    "5e88...42d8" = "write"

    [privacy]
    preset = "no-personal-data"          # and any rule of `schemas.privacy`

    [limits]                             # of one collector process; without them there is no limit
    rate = 100                           # events per second, on the average
    burst = 1000                         # events at once; default: ten seconds of the rate

    [exclusions]                         # requests that are answered as usual and not kept (schemas.exclusions)
    excluded_addresses = ["10.1.0.0/16", "192.168.1.*", "2001:db8::/32"]
    excluded_agents = ["Uptime", "/^curl/i"]
    excluded_requests = ["e_c==Test,action_name=^Draft"]
    exclude_unknown_urls = false         # keep only what happens on `domains`
    keep_bots = false                    # store what crawlers do, marked as such, without `bots=1`

`default.toml` takes the same keys but `name`, `domains`, `goals` and `tokens`. Loading is all or nothing: one wrong
file and `SitesError` names it, so that what was in force before stays in force.

What workers must know of a site is its `SitePolicy`; the policies of all sites at one moment are a
`PolicySet`, named by the hash of its canonical form. It holds no token and no name.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schemas.addresses import parse_range
from schemas.exclusions import comparisons, pattern
from schemas.packets import Role
from schemas.privacy import Privacy, PrivacyError, resolve

DEFAULT_FILE = "default.toml"
MAX_SITE = 2**32 - 1
MAX_REPEAT_SECONDS = 3_600  # the worker holds the identities of so many seconds in memory
BURST_SECONDS = 10
HIGHEST_RATE = 1e9  # events per second; also the highest burst

_host = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?(?:/[^\s?#]*)?").fullmatch
_token = re.compile(r"[0-9a-f]{64}").fullmatch


class SitesError(ValueError):
    """A site's file is wrong; the message names the file, the key and what is expected."""


class SitePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides how the events of one site are treated. Lists are sorted, so that equal means equal bytes."""

    timezone: str = "UTC"
    domains: tuple[str, ...] = ()
    shards: int = 1
    repeat_seconds: int = 900
    privacy: Privacy = Privacy()
    excluded_addresses: tuple[str, ...] = ()
    excluded_agents: tuple[str, ...] = ()
    excluded_requests: tuple[str, ...] = ()
    exclude_unknown_urls: bool = False
    keep_bots: bool = False
    goals: tuple[int, ...] = ()


class Limit(msgspec.Struct, frozen=True):
    """A token bucket. `rate`: events per second. `burst`: events that may come at once.

    Its level is kept as the time (seconds) at which it will be full.
    """

    rate: float
    burst: float

    def wait(self, full: float, events: int, now: float) -> float:
        """Seconds until so many events (of more than a burst: a burst) would be taken; not above 0 when they are."""
        return max(full - now, 0.0) - (self.burst - min(events, self.burst)) / self.rate

    def after(self, full: float, events: int, now: float) -> float:
        """When it will be full, if they are taken now."""
        return max(full, now) + events / self.rate


def limit_of(rate: float, burst: float | None) -> Limit | None:
    """A limit of `rate` events per second, None for a rate of 0; without a burst it is ten seconds' events."""
    return Limit(rate, max(rate * BURST_SECONDS, 1.0) if burst is None else burst) if rate else None


class Site(msgspec.Struct, frozen=True):
    """A site as its file describes it; `tokens` maps the sha256 of a token, in hex, to its role.

    `privacy_from`: by privacy rule, where its value is from.
    """

    id: int
    name: str
    policy: SitePolicy
    tokens: dict[str, Role]
    limit: Limit | None = None
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

    @cached_property
    def repeat_seconds(self) -> int:
        """The longest window of repeats of any site."""
        return max((policy.repeat_seconds for policy in self.sites.values()), default=0)

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
        found = cls(sites)
        found.canonical = data  # a set of an older version keeps its name, though it lacks what has a default since
        return found


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


class _Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rate: float | None = None
    burst: float | None = None


class _Exclusions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    excluded_addresses: list[str] | None = None
    excluded_agents: list[str] | None = None
    excluded_requests: list[str] | None = None
    exclude_unknown_urls: bool | None = None
    keep_bots: bool | None = None


class _Default(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    timezone: str | None = None
    shards: int | None = None
    repeat_seconds: int | None = None
    privacy: dict[str, Any] = {}
    limits: _Limits = _Limits()
    exclusions: _Exclusions = _Exclusions()


class _File(_Default, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    domains: list[str] = []
    goals: list[int] = []
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
            raise wrong("domains", "must be host names, such as www.shop.example, *.shop.example or shop.example/en")
    shards = next((n for n in (file.shards, default.shards) if n is not None), 1)
    if not 1 <= shards <= 1024:
        raise wrong("shards", "must be from 1 to 1024")
    repeat_seconds = next((n for n in (file.repeat_seconds, default.repeat_seconds) if n is not None), 900)
    if not 0 <= repeat_seconds <= MAX_REPEAT_SECONDS:
        raise wrong("repeat_seconds", f"must be from 0 to {MAX_REPEAT_SECONDS}")
    try:
        privacy, sources = resolve({path.name: file.privacy, DEFAULT_FILE: default.privacy})
    except PrivacyError as error:
        raise SitesError(f"{path}: {error}") from None
    excluded = _exclusions(file, default, wrong)
    if excluded["exclude_unknown_urls"] and not domains:
        raise wrong("exclusions.exclude_unknown_urls", "needs domains, or nothing of the site would be kept")
    goals = tuple(sorted(set(file.goals)))
    if goals and not (goals[0] >= 1 and goals[-1] < 2**31):
        raise wrong("goals", "must be ids of goals, from 1 to 2147483647")
    tokens = {}
    for digest, role in file.tokens.items():
        if not _token(digest):
            raise wrong("tokens", "must be named by the sha256 of the token, 64 hex digits")
        if role.upper() not in Role.__members__ or role.upper() == "NONE":
            raise wrong("tokens", "must have the role view, write, admin or superuser")
        tokens[digest] = Role[role.upper()]
    # A site's own rate comes with its own burst.
    limits = file.limits if file.limits.rate is not None else default.limits
    rate, burst = limits.rate or 0.0, file.limits.burst if file.limits.burst is not None else limits.burst
    if not (rate == 0 or 0.001 <= rate <= HIGHEST_RATE):
        raise wrong("limits.rate", "must be events per second, at least 0.001, or 0 for no limit")
    if burst is not None and not 1 <= burst <= HIGHEST_RATE:
        raise wrong("limits.burst", "must be a number of events, at least 1")
    policy = SitePolicy(
        timezone=timezone,
        domains=tuple(domains),
        shards=shards,
        repeat_seconds=repeat_seconds,
        privacy=privacy,
        goals=goals,
        **excluded,
    )
    return Site(number, file.name or f"Site {number}", policy, tokens, limit_of(rate, burst), sources)


def _exclusions(file: _File, default: _Default, wrong: Callable[[str, str], SitesError]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in _Exclusions.__struct_fields__:
        values = (getattr(source.exclusions, name) for source in (file, default))
        value = next((value for value in values if value is not None), None)
        if isinstance(value, list):
            value = tuple(sorted({text.strip() for text in value}))
        if value is not None:
            out[name] = value
    out.setdefault("exclude_unknown_urls", False)
    for text in out.get("excluded_addresses", ()):
        if parse_range(text) is None:
            raise wrong("exclusions.excluded_addresses", f"holds {text!r}, must be as 10.1.2.3, 10.0.0.0/8 or 10.1.2.*")
    for text in out.get("excluded_agents", ()):
        if not text:
            raise wrong("exclusions.excluded_agents", "holds an empty text, which every agent holds")
        _expression(text, "exclusions.excluded_agents", wrong)
    for text in out.get("excluded_requests", ()):
        found = comparisons(text)
        if not found or any(one.name.startswith(("hsr_", "fa_")) for one in found):
            expected = "must be as e_c==Test, with == != =@ !@ =^ or =$, and not of hsr_ or fa_, which nothing reads"
            raise wrong("exclusions.excluded_requests", f"holds {text!r}, {expected}")
    return out


def _expression(text: str, key: str, wrong: Callable[[str, str], SitesError]) -> None:
    try:
        pattern(text)
    except re.error as error:
        raise wrong(key, f"holds {text!r}, which is no regular expression: {error}") from None
