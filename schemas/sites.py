"""Sites and their privacy policies: one file `<id>.toml` per site over `default.toml`, all in one folder.

    name = "Shop"                        # shown to people
    domains = ["shop.example"]           # the site's own hosts, perhaps with a path: "shop.example/en"
    excluded_referrers = ["pay.example", "*.bank.example"]  # coming back from there is no arrival: the visit is direct
    main_url = "https://shop.example"    # what clients of the reporting API are told; default: of the first domain
    goals = [1, 2]                       # ids of its goals; others are refused (none named: all are taken); with
                                         # rules of what converts one: tables [[goals]], see schemas.goals
    timezone = "Europe/Berlin"           # the site's days begin and end by it
    shards = 1                           # more than 1 for a giant site only: over so many partitions its visitors are
                                         # dealt; {2027-01-01 = 4}: from that date's midnight at the site on
    repeat_seconds = 900                 # what is sent again within so many seconds is dropped, at most 3600; 0: never

    [tokens]                             # sha256 of a token, in hex -> role
    "5e88...42d8" = "write"
    "9f86...0a08" = {role = "view", description = "report", expires = 2027-01-31T00:00:00Z}

    [privacy]
    preset = "no-personal-data"          # and any rule of `schemas.privacy`

    [campaign_parameters]                # of the site's own, before those of mtm_, pk_ and utm_
    name = ["cmp"]                       # or source, medium, term (the keyword), content

    [retention]                          # days after which rows are removed (schemas.retention)
    events = 400

    [limits]                             # of one collector process; without them there is no limit
    rate = 100                           # events per second, on the average
    burst = 1000                         # events at once; default: ten seconds of the rate

    [exclusions]                         # requests that are answered as usual and not kept (schemas.exclusions)
    excluded_addresses = ["10.1.0.0/16", "192.168.1.*", "2001:db8::/32"]
    excluded_agents = ["Uptime", "/^curl/i"]
    excluded_requests = ["e_c==Test,action_name=^Draft"]
    exclude_unknown_urls = false         # keep only what happens on `domains`
    keep_bots = false                    # store what crawlers do, marked as such, without `bots=1`

    [recordings]                         # of sessions, and heatmaps (schemas.recordings)
    enabled = true

`default.toml` takes the same keys but `name`, `domains`, `main_url`, `goals` and `tokens`; `superusers.toml` takes only
`[tokens]`, all with the role superuser. A superuser's token, here or in a site's file, is valid for all sites. Files
whose names begin with a dot are not read. Loading is all or nothing: one wrong
file and `SitesError` names it, so that what was in force before stays in force.

What workers must know of a site is its `SitePolicy`; the policies of all sites at one moment are a
`PolicySet`, named by the hash of its canonical form. It holds no token and no name.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
import zlib
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schemas.addresses import parse_range
from schemas.exclusions import comparisons, pattern
from schemas.goals import Goal, GoalEntry, GoalError, read_goals
from schemas.packets import Role
from schemas.parameter_lists import CAMPAIGN_FIELDS
from schemas.privacy import Privacy, PrivacyError, resolve
from schemas.recordings import Recordings, RecordingsError, RecordingsTable
from schemas.recordings import resolve as resolve_recordings
from schemas.retention import Retention, RetentionError
from schemas.retention import resolve as resolve_retention
from schemas.tokens import Token, TokenEntry, TokenError, read_tokens, token_hash

DEFAULT_FILE = "default.toml"
SUPERUSERS_FILE = "superusers.toml"
MAX_SITE = 2**32 - 1
MOST_SHARDS = 1024
MAX_REPEAT_SECONDS = 3_600  # the worker holds the identities of so many seconds in memory
BURST_SECONDS = 10
COMPRESSED_FROM = 256 << 10  # bytes of a set of policies
HIGHEST_RATE = 1e9  # events per second; also the highest burst

_host = re.compile(
    r"(?:(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[^\s?#]*)?"
).fullmatch
_url = re.compile(r"https?://[^\s/?#]+(?:/[^\s]*)?").fullmatch
_parameter = re.compile(r"[^\s=&#?\[\]%+;]{1,64}").fullmatch
_number = re.compile(r"[1-9][0-9]{0,9}").fullmatch


class SitesError(ValueError):
    """A site's file is wrong; the message names the file, the key and what is expected.

    `problems`: one message for each wrong file; as a text the error is the first of them.
    """

    def __init__(self, *problems: str) -> None:
        more = f" (and {len(problems) - 1} more; `veilstream sites check` names each)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class SitePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides how the events of one site are treated. Lists are sorted, so that equal means equal bytes."""

    timezone: str = "UTC"
    domains: tuple[str, ...] = ()
    excluded_referrers: tuple[str, ...] = ()
    campaign_parameters: dict[str, tuple[str, ...]] = {}  # by field of a campaign
    shards: int = 1  # at most, at any time
    repeat_seconds: int = 900
    privacy: Privacy = Privacy()
    excluded_addresses: tuple[str, ...] = ()
    excluded_agents: tuple[str, ...] = ()
    excluded_requests: tuple[str, ...] = ()
    exclude_unknown_urls: bool = False
    keep_bots: bool = False
    goals: tuple[int, ...] = ()
    goal_rules: tuple[Goal, ...] = ()
    recordings: Recordings = Recordings()


# By host (lower case, without `www.`): paths with a slash at both ends, the longest first.
Folders = Mapping[str, tuple[str, ...]]


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
    """A site as its file describes it; `tokens` is keyed by the sha256 of a token, in hex.

    `privacy_from`, `retention_from`: by privacy rule and by kind of data, where its value is from. `shards`: from which
    moment on (ms since 1970, rising) the site has how many; before the first, and without any, one.
    """

    id: int
    name: str
    policy: SitePolicy
    tokens: dict[str, Token]
    limit: Limit | None = None
    privacy_from: dict[str, str] = {}
    main_url: str = ""
    retention: Retention = Retention()
    retention_from: dict[str, str] = {}
    goal_names: dict[int, str] = {}
    shards: tuple[tuple[int, int], ...] = ()

    def role(self, token: str) -> Role:
        """What this token may do here; NONE when it is not one of the site's."""
        found = self.tokens.get(token_hash(token))
        return Role.NONE if found is None else found.now


# Of the code that applies policies: raised when detectors find more or rules do otherwise than before.
REVISION = 1


class PolicySet:
    """The policies of all sites at one moment. `version`: 16 bytes, hash of the canonical form.

    `revision`: that of the code which applies them (`REVISION`), so that `anonymize-past` knows what an older one made.
    """

    def __init__(self, sites: Mapping[int, SitePolicy], revision: int = REVISION) -> None:
        self.revision = revision
        self.sites: Mapping[int, SitePolicy] = MappingProxyType(dict(sorted(sites.items())))

    def of(self, site: int) -> SitePolicy | None:
        """The policy of a site, or None where it is unknown."""
        return self.sites.get(site)

    @cached_property
    def canonical(self) -> bytes:
        """JSON: the revision as site 0, then sites by rising id with fields in the order of `SitePolicy`."""
        return msgspec.json.encode({"0": self.revision} | {str(site): policy for site, policy in self.sites.items()})

    @cached_property
    def version(self) -> bytes:
        """16 bytes that name this set in packets and rows."""
        return hashlib.blake2b(self.canonical, digest_size=16).digest()

    @cached_property
    def folders(self) -> Folders:
        """The folders of hosts that are sites."""
        found: dict[str, set[str]] = {}
        for domain in chain.from_iterable(site.domains for site in self.sites.values()):
            host, _, path = domain.partition("/")
            if path.strip("/") and not host.startswith("*"):
                found.setdefault(host.removeprefix("www."), set()).add(f"/{path.strip('/')}/")
        return {host: tuple(sorted(paths, key=len, reverse=True)) for host, paths in found.items()}

    @cached_property
    def repeat_seconds(self) -> int:
        """The longest window of repeats of any site."""
        return max((policy.repeat_seconds for policy in self.sites.values()), default=0)

    def dump(self) -> bytes:
        """The value of the record on `site.policies`, compressed where it is long; its key is the version in hex."""
        return self.canonical if len(self.canonical) < COMPRESSED_FROM else zlib.compress(self.canonical, 1)

    @classmethod
    def load(cls, data: bytes) -> PolicySet:
        """The set of a record's value; raises SitesError when it is not one."""
        try:
            text = data if data.startswith(b"{") else zlib.decompress(data)
            given = _raw.decode(text)
            revision = msgspec.json.decode(given.pop(0, b"0"), type=int)
            sites = {site: _policy(bytes(raw)) for site, raw in given.items()}
        except (msgspec.DecodeError, zlib.error) as error:
            raise SitesError(f"record is not a set of policies: {error}") from None
        found = cls(sites, revision)
        # A set of an older version keeps its name, though it lacks what has a default since.
        found.version = hashlib.blake2b(text, digest_size=16).digest()
        found.dump = lambda: data  # type: ignore[method-assign]
        return found


_raw = msgspec.json.Decoder(dict[int, msgspec.Raw])
_one = msgspec.json.Decoder(SitePolicy)


@lru_cache(maxsize=16_384)
def _policy(raw: bytes) -> SitePolicy:
    """Versions that follow one another have nearly all policies in common; so they share them."""
    return _one.decode(raw)


class Sites:
    """All sites of an installation, as loaded at one moment."""

    def __init__(
        self,
        sites: Mapping[int, Site],
        superusers: Mapping[str, Token] | None = None,
        retention: Retention | None = None,
    ) -> None:
        """`superusers`: the tokens of `superusers.toml`, by hash. `retention`: of sites whose file is gone."""
        self.retention = Retention() if retention is None else retention
        self.by_id: Mapping[int, Site] = MappingProxyType(dict(sorted(sites.items())))
        self.policies = PolicySet({site.id: site.policy for site in self.by_id.values()})
        self.superusers: dict[str, Token] = {}
        self._by_token: dict[str, list[Site]] = {}
        for site in self.by_id.values():
            for digest, token in site.tokens.items():
                self._by_token.setdefault(digest, []).append(site)
                if token.role is Role.SUPERUSER:
                    self.superusers[digest] = token
        self.superusers.update(superusers or {})

    def of(self, site: int) -> Site | None:
        """The site, or None where it is unknown."""
        return self.by_id.get(site)

    def superuser(self, token: str) -> bool:
        """Whether a token is valid for all sites."""
        found = self.superusers.get(token_hash(token)) if self.superusers else None
        return found is not None and found.now is Role.SUPERUSER

    def readable(self, token: str) -> Mapping[int, Site]:
        """The sites, by id, that a token may read about."""
        if self.superuser(token):
            return self.by_id
        return {site.id: site for site in self._by_token.get(token_hash(token), ()) if site.role(token)}

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
    shards: int | dict[str, int] | None = None
    repeat_seconds: int | None = None
    excluded_referrers: list[str] | None = None
    campaign_parameters: dict[str, list[str]] | None = None
    privacy: dict[str, Any] = {}
    retention: Retention = Retention()
    limits: _Limits = _Limits()
    exclusions: _Exclusions = _Exclusions()
    recordings: RecordingsTable = RecordingsTable()


class _File(_Default, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    domains: list[str] = []
    main_url: str = ""
    goals: list[int | GoalEntry] = []
    tokens: dict[str, str | TokenEntry] = {}


class _Superusers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: dict[str, str | TokenEntry] = {}


_D = TypeVar("_D", bound=msgspec.Struct)
_V = TypeVar("_V")
Known = dict[str, tuple[object, Site]]  # by file name: what tells that it is unchanged, what it said


def load_sites(folder: Path, known: Known | None = None) -> Sites:
    """All sites of the folder; raises SitesError naming the files that are wrong.

    `known` holds what was read, from call to call: only a file whose time, size or inode changed is read again.
    """
    before, after = known or {}, {}
    names = file_names(folder)
    default = _read(folder / DEFAULT_FILE, _Default) if DEFAULT_FILE in names else _Default()
    said = msgspec.json.encode(default)
    problems: list[str] = []
    superusers: dict[str, Token] = {}
    for name in names:
        path = folder / name
        try:
            if name == SUPERUSERS_FILE:
                superusers = read_superusers(path)
            elif name != DEFAULT_FILE:
                status = path.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino, said)
                kept = before.get(name)
                after[name] = kept if kept and kept[0] == stamp else (stamp, _site(path, _id(path), default))
        except SitesError as error:
            problems += error.problems
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    if known is not None:
        known.clear()
        known.update(after)
    if problems:
        raise SitesError(*problems)
    try:
        retention, _ = resolve_retention({DEFAULT_FILE: default.retention})
    except RetentionError as error:
        raise SitesError(f"{folder / DEFAULT_FILE}: {error}") from None
    return Sites({site.id: site for _, site in after.values()}, superusers, retention)


def file_names(folder: Path) -> list[str]:
    """The files that are read, by name; raises SitesError."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith("."))
    except FileNotFoundError:
        raise SitesError(f"{folder}: there is no such folder; `veilstream sites add` makes it") from None
    except OSError as error:
        raise SitesError(f"{folder}: {error.strerror}") from None


def read_site(folder: Path, number: int, path: Path) -> Site:
    """The site that a file would be, over the folder's defaults; raises SitesError."""
    default = folder / DEFAULT_FILE
    return _site(path, number, _read(default, _Default) if default.is_file() else _Default())


def read_superusers(path: Path) -> dict[str, Token]:
    """The tokens of `superusers.toml`; raises SitesError."""
    try:
        superusers = read_tokens(_read(path, _Superusers).tokens)
    except TokenError as error:
        raise SitesError(f"{path}: tokens {error}") from None
    if any(token.role is not Role.SUPERUSER for token in superusers.values()):
        raise SitesError(f"{path}: tokens must have the role superuser; others stand in the file of their site")
    return superusers


def _id(path: Path) -> int:
    if not _number(path.stem) or int(path.stem) > MAX_SITE:
        expected = f"a site's id, 1 to {MAX_SITE}, or {DEFAULT_FILE} or {SUPERUSERS_FILE}"
        raise SitesError(f"{path}: the file's name must be {expected}")
    return int(path.stem)


def _read(path: Path, kind: type[_D]) -> _D:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
        return msgspec.convert(data, kind)
    except OSError as error:
        raise SitesError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SitesError(f"{path}: is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise SitesError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # of tomllib: also numbers or tables too long or deep to read
        raise SitesError(f"{path}: is not TOML: {error}") from None


def _site(path: Path, number: int, default: _Default) -> Site:
    file = _read(path, _File)

    def wrong(key: str, expected: str) -> SitesError:
        return SitesError(f"{path}: {key} {expected}")

    timezone = file.timezone or default.timezone or "UTC"
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise wrong("timezone", "must be a name of the IANA time zone database, such as Europe/Berlin") from None
    domains = _places("domains", file.domains, wrong)
    excluded_referrers = _first(file.excluded_referrers, default.excluded_referrers, [])
    shards = _shards(default.shards if file.shards is None else file.shards, ZoneInfo(timezone), wrong)
    repeat_seconds = _first(file.repeat_seconds, default.repeat_seconds, 900)
    if not 0 <= repeat_seconds <= MAX_REPEAT_SECONDS:
        raise wrong("repeat_seconds", f"must be from 0 to {MAX_REPEAT_SECONDS}")
    try:
        privacy, sources = resolve({path.name: file.privacy, DEFAULT_FILE: default.privacy})
        kept = resolve_retention({path.name: file.retention, DEFAULT_FILE: default.retention})
        recordings = resolve_recordings(file.recordings, default.recordings)
    except (PrivacyError, RetentionError, RecordingsError) as error:
        raise SitesError(f"{path}: {error}") from None
    if privacy.children:  # a session of a recorder is an identifier
        recordings = msgspec.structs.replace(recordings, enabled=False)
    excluded = _exclusions(file, default, wrong)
    if excluded["exclude_unknown_urls"] and not domains:
        raise wrong("exclusions.exclude_unknown_urls", "needs domains, or nothing of the site would be kept")
    try:
        goals, goal_rules, goal_names = read_goals(file.goals)
    except GoalError as error:
        raise wrong("goals", str(error)) from None
    try:
        tokens = read_tokens(file.tokens)
    except TokenError as error:
        raise wrong("tokens", str(error)) from None
    if file.main_url and not _url(file.main_url):
        raise wrong("main_url", "must be a URL, such as https://shop.example")
    # A site's own rate comes with its own burst.
    limits = file.limits if file.limits.rate is not None else default.limits
    rate, burst = limits.rate or 0.0, file.limits.burst if file.limits.burst is not None else limits.burst
    if not (rate == 0 or 0.001 <= rate <= HIGHEST_RATE):
        raise wrong("limits.rate", "must be events per second, at least 0.001, or 0 for no limit")
    if burst is not None and not 1 <= burst <= HIGHEST_RATE:
        raise wrong("limits.burst", "must be a number of events, at least 1")
    policy = SitePolicy(
        timezone=timezone,
        domains=domains,
        excluded_referrers=_places("excluded_referrers", excluded_referrers, wrong),
        campaign_parameters=_campaigns(_first(file.campaign_parameters, default.campaign_parameters, {}), wrong),
        shards=max((count for _, count in shards), default=1),
        repeat_seconds=repeat_seconds,
        privacy=privacy,
        goals=goals,
        goal_rules=goal_rules,
        recordings=recordings,
        **excluded,
    )
    limit = limit_of(rate, burst)
    where = (sources, file.main_url)
    return Site(number, file.name or f"Site {number}", policy, tokens, limit, *where, *kept, goal_names, shards)


def _first(file: _V | None, default: _V | None, otherwise: _V) -> _V:
    return next((value for value in (file, default) if value is not None), otherwise)


def _shards(
    given: int | Mapping[str, int] | None, zone: ZoneInfo, wrong: Callable[[str, str], SitesError]
) -> tuple[tuple[int, int], ...]:
    """See `Site.shards`."""
    if given is None:
        return ()
    found = {0: given} if isinstance(given, int) else dict[int, int]()
    for text, count in given.items() if not isinstance(given, int) else ():
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise wrong(f"shards.{text}", "must be a date, such as 2027-01-01") from None
        found[round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)] = count
    if not all(1 <= count <= MOST_SHARDS for count in found.values()):
        raise wrong("shards", f"must be from 1 to {MOST_SHARDS}")
    return () if set(found.values()) <= {1} else tuple(sorted(found.items()))


def _places(key: str, given: list[str], wrong: Callable[[str, str], SitesError]) -> tuple[str, ...]:
    found = sorted({domain.lower() for domain in given})
    if not all(map(_host, found)):
        raise wrong(key, "must be host names, such as www.shop.example, *.shop.example or shop.example/en")
    return tuple(found)


def _campaigns(given: Mapping[str, list[str]], wrong: Callable[[str, str], SitesError]) -> dict[str, tuple[str, ...]]:
    """Names of parameters in lower case, in the order in which they are looked for."""
    out = {}
    for field in sorted(given):
        if field not in CAMPAIGN_FIELDS:
            raise wrong(f"campaign_parameters.{field}", f"must be one of {', '.join(CAMPAIGN_FIELDS)}")
        if not all(map(_parameter, given[field])):
            raise wrong(f"campaign_parameters.{field}", "must be names of URL parameters, such as cmp")
        out[field] = tuple(dict.fromkeys(name.lower() for name in given[field]))
    return out


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
