"""The part of Matomo's reporting API that clients need to start: sites by id, by URL, all; a new site; the version.

A call is a form or a query with `module=API` and `method`. Answers are JSON with status 200; an error is
`{"result": "error", "message": ...}`, since clients try other statuses again and then give up with a trace.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from infra import sites, users
from infra.service.logs import describe, logger
from ingest.exchange import Exchange
from ingest.headers import Fields
from ingest.policies import Policies
from schemas.packets import Role
from schemas.sites import Site, Sites, SitesError

if TYPE_CHECKING:
    from ingest.tracking import Tracking

log = logger(__name__)

VERSION = "5.2.0"  # of Matomo, whose API is answered
CALL_LIMIT = 64 * 1024  # bytes of a call
FIELDS_LIMIT = 1000
IN_FORCE_SECONDS = 10.0  # longest wait until a new site takes events
OTHERS_SECONDS = 2.0  # until processes beside this one have taken up a new site too
PROOFS_LIMIT = 8  # of passwords, waiting; each takes 16 MiB and a fifth of a second
WRONG_SECONDS = 0.5  # after a wrong one, until the next is looked at: guessing takes long, and little of a core
HOURS_LIMIT = 10 * 366 * 24

DENIED = "You can't access this resource: the token_auth is missing, wrong or expired, or lacks the needed role."


class ReportingError(Exception):
    """A call that cannot be answered; the message is for its sender."""


class Reporting:
    """Serves the API. `processes`: collectors that share the port."""

    def __init__(self, folder: Path, users: Path, tracking: Tracking, policies: Policies, processes: int = 1) -> None:
        self._folder = folder
        self._users = users
        self._tracking = tracking
        self._policies = policies
        self._processes = processes
        self._proving = asyncio.Semaphore(1)
        self._proofs = 0
        self._hosts: tuple[Sites | None, Hosts] = (None, Hosts(()))
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, exchange: Exchange, fields: Fields, query: bytes, body: bytes) -> bool:
        """Answers a call of the API, now or later; False when the request is none."""
        if b"module" not in query and b"module" not in body[:CALL_LIMIT]:
            return False
        if len(query) + len(body) > CALL_LIMIT:
            call = {"module": "API", "long": ""}
        elif (call := parameters(query, body)).get("module") != "API":
            return False
        scheme, _, token = fields.get("authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer":
            call["token_auth"] = token.strip()
        mode = exchange.connection.mode(exchange, fields)
        task = asyncio.get_running_loop().create_task(self._answer(exchange, fields.get("origin"), mode, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _answer(self, exchange: Exchange, origin: bytes | None, mode: int, call: Mapping[str, str]) -> None:
        try:
            result = await self._result(call)
        except ReportingError as error:
            result = failed(str(error))
        except SitesError as error:
            result = failed(str(error).replace(f"{self._folder}/", ""))
        except OSError as error:
            log.error("reporting_failed", **describe(error))
            result = failed(f"The sites' files cannot be written: {error.strerror}.")
        except Exception as error:
            # What is wrong may hold what was sent.
            log.error("reporting_failed", **describe(error))
            result = failed("The call failed; the collector's log says why.")
        text = result if isinstance(result, bytes) else encoded(result)
        make = exchange.connection.server.answers.make
        exchange.reply(200, make(200, text, b"application/json; charset=utf-8", origin=origin, mode=mode))

    async def _result(self, call: Mapping[str, str]) -> Any:
        if "long" in call:
            raise ReportingError(f"A call may have {CALL_LIMIT} bytes and {FIELDS_LIMIT} parameters.")
        if call.get("format", "json").lower() != "json":
            raise ReportingError("The only format here is json; send format=json.")
        method = call.get("method", "")
        if method == "UsersManager.createAppSpecificTokenAuth":
            return {"value": await self._token(call)}
        found = self._tracking.directory.sites
        token = call.get("token_auth", "")
        superuser, readable = found.superuser(token), found.readable(token)
        if not superuser and not readable:
            raise ReportingError(DENIED)
        match method:
            case "SitesManager.getSiteFromId":
                return described(self._site(call.get("idSite", ""), readable, superuser))
            case "SitesManager.getSitesIdFromSiteUrl":
                if not (url := call.get("url", "")):
                    raise ReportingError("Please specify a value for 'url'.")
                return [{"idsite": number} for number in self._serving(found, host_of(url)) if number in readable]
            case "SitesManager.getAllSites":
                self._superusers_only(superuser)
                return await asyncio.to_thread(
                    lambda: encoded({str(number): described(site) for number, site in readable.items()})
                )
            case "SitesManager.addSite":
                self._superusers_only(superuser)
                return {"value": await self._add(call)}
            case "API.getMatomoVersion" | "API.getPiwikVersion":
                return {"value": VERSION}
            case "":
                raise ReportingError("Please specify a value for 'method'.")
        raise ReportingError("This method does not exist or is not available here.")

    @staticmethod
    def _superusers_only(superuser: bool) -> None:
        if not superuser:
            raise ReportingError(DENIED)

    @staticmethod
    def _site(number: str, readable: Mapping[int, Site], superuser: bool) -> Site:
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            raise ReportingError("idSite must be a site's id, a whole number.")
        site = readable.get(int(number))
        if site is None:
            raise ReportingError(f"There is no site {int(number)}." if superuser else DENIED)
        return site

    def _serving(self, found: Sites, host: str) -> list[int]:
        if self._hosts[0] is not found:
            self._hosts = found, Hosts(found.by_id.values())
        return self._hosts[1].sites(host)

    async def _token(self, call: Mapping[str, str]) -> str:
        hours = call.get("expireHours") or "0"
        if not (hours.isascii() and hours.isdigit() and int(hours[:9]) <= HOURS_LIMIT):
            raise ReportingError(f"expireHours must be a whole number of hours to {HOURS_LIMIT}, 0 for no end.")
        if self._proofs >= PROOFS_LIMIT:
            raise ReportingError("Too many ask for a token just now; try again later.")
        login, password = call.get("userLogin", ""), call.get("passwordConfirmation", "")
        self._proofs += 1
        try:
            async with self._proving:
                right = await asyncio.to_thread(users.verify, self._users, login, password)
                if not right:
                    await asyncio.sleep(WRONG_SECONDS)
        finally:
            self._proofs -= 1
        if not right:
            raise ReportingError("The user or the password is wrong.")
        expires = datetime.now(UTC) + timedelta(hours=int(hours)) if int(hours) else None
        what = call.get("description", "")[:100]

        def write() -> str:
            return sites.add_token(self._folder, None, Role.SUPERUSER, description=what, expires=expires)

        token = await asyncio.to_thread(write)
        await self._look()
        if not self._tracking.directory.superuser(token):
            raise ReportingError("The token is made, but is not in force: Kafka does not answer.")
        await self._others()
        return token

    async def _add(self, call: Mapping[str, str]) -> int:
        name = call.get("siteName", "").strip()
        if not name:
            raise ReportingError("Please specify a value for 'siteName'.")
        urls = [value.strip() for key, value in call.items() if key.partition("[")[0] == "urls" and value.strip()]
        hosts = tuple(dict.fromkeys(host_of(url) for url in urls))
        main = urls[0] if urls and "://" in urls[0] else ""
        timezone = call.get("timezone", "")
        await self._look()

        def write() -> Site:
            return sites.add(self._folder, name=name, domains=hosts, timezone=timezone, main_url=main)

        site = await asyncio.to_thread(write)
        await self._look()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + IN_FORCE_SECONDS
        while self._tracking.directory.find(site.id) is None:
            if loop.time() > deadline:
                raise ReportingError(f"Site {site.id} is added, but is not in force yet: Kafka does not answer.")
            await asyncio.sleep(0.005)
        await self._others()
        return site.id

    async def _look(self) -> None:
        """Takes up what has changed; says so where something else among the sites' files is wrong."""
        await self._policies.look()
        if self._policies.problem:
            raise SitesError(f"The sites' files are wrong, so nothing new comes into force: {self._policies.problem}")

    async def _others(self) -> None:
        if self._processes > 1:
            await asyncio.sleep(OTHERS_SECONDS)


def parameters(query: bytes, body: bytes) -> dict[str, str]:
    """The parameters of a call; those of the form go before those of the query, as in PHP."""
    found: dict[str, str] = {}
    for part in (query, body):
        try:
            text = part.decode("utf-8", "replace")
            found.update(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_LIMIT))
        except ValueError:
            return {"module": "API", "long": ""}
    return found


def failed(message: str) -> dict[str, str]:
    """An error as the API tells it."""
    return {"result": "error", "message": message}


def encoded(result: Any) -> bytes:
    """JSON as the API writes it."""
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def described(site: Site) -> dict[str, Any]:
    """A site as SitesManager shows it."""
    policy = site.policy
    return {
        "idsite": site.id,
        "name": site.name,
        "main_url": main_url(site),
        "timezone": policy.timezone,
        "excluded_ips": ",".join(policy.excluded_addresses),
        "excluded_parameters": ",".join(policy.privacy.excluded_parameters),
        "excluded_user_agents": ",".join(policy.excluded_agents),
        "exclude_unknown_urls": int(policy.exclude_unknown_urls),
        "keep_url_fragment": int(policy.privacy.keep_fragment),
        "sitesearch": 1,
        "sitesearch_keyword_parameters": ",".join(policy.privacy.search_parameters),
        "sitesearch_category_parameters": ",".join(policy.privacy.search_category_parameters),
        "excluded_referrers": ",".join(policy.excluded_referrers),
        "type": "website",
    }


def main_url(site: Site) -> str:
    """The site's address; made of its first plain domain where its file names none, else empty."""
    if site.main_url:
        return site.main_url
    return next((f"https://{domain}" for domain in site.policy.domains if not domain.startswith("*")), "")


def host_of(url: str) -> str:
    """The host, with its port, of a URL or a bare host name, in lower case; "" where there is none."""
    try:
        return urlsplit(url if "://" in url else "//" + url.removeprefix("//")).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


class Hosts:
    """Which sites a host belongs to; `www.` makes no difference."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._below: dict[str, list[int]] = {}  # of `*.shop.example`, by shop.example
        for site in sites:
            hosts = [domain.partition("/")[0] for domain in site.policy.domains]
            if site.main_url:
                hosts.append(host_of(site.main_url))
            for host in hosts:
                table = self._below if host.startswith("*.") else self._exact
                name = host.removeprefix("*.") if table is self._below else host.removeprefix("www.")
                table.setdefault(name, []).append(site.id)

    def sites(self, host: str) -> list[int]:
        """Ids of the sites, rising."""
        found = set(self._exact.get(host.removeprefix("www."), ())) if host else set()
        labels = host.split(".")
        for at in range(1, len(labels)):
            found.update(self._below.get(".".join(labels[at:]), ()))
        return sorted(found)
