"""Who may do what: the service user may all, the dashboard user may read, and not everything.

The engine has no users. So the dashboard's query is first put into the engine's canonical form (no comments, no
escapes in names), its words are checked here, and it runs under ``readonly=1``, which refuses every write, every change
of a setting, ``file()`` and ``url()`` as table functions.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.local.front.errors import (
    ACCESS_DENIED,
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    READONLY,
    REQUIRED_PASSWORD,
    FrontError,
)
from infra.local.front.lexer import Token, tokens, unquote

#: Tables with keys: wrapped or not, a dashboard has no business with them.
SECRET_PREFIX = "vault_"

#: What a read-only user may begin a statement with. SHOW PROCESSLIST and the like are refused below.
READING = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "(", "FROM"})
SHOWN = frozenset(
    {"DATABASES", "TABLES", "COLUMNS", "FIELDS", "CREATE", "FULL", "EXTENDED", "INDEX", "INDEXES", "INDICES", "KEYS",
     "FUNCTIONS", "SETTINGS", "CHANGED", "SETTING", "ENGINES", "TEMPORARY", "VIEW", "DICTIONARIES", "TABLE", "DATABASE"}
)  # fmt: skip

#: Table functions that read nothing but their arguments.
HARMLESS = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "values", "view", "null", "generateseries", "generate_series",
     "primes", "format", "fuzzjson", "sqlstandardvalues"}
)  # fmt: skip
#: Functions that reach a file, a table by its name in a string, another process, the network or the machine.
REACHING = frozenset(
    {"file", "joinget", "joingetornull", "executable", "eval", "python", "addresstoline", "addresstosymbol",
     "addresstolinewithinlines", "getmacro", "getclienthttpheader", "getserversetting", "demangle",
     "filesystemavailable",
     "filesystemcapacity", "filesystemunreserved", "catboostevaluate", "hascolumnintable", "__getscalar", "buildid"}
)  # fmt: skip
REACHING_PREFIXES = ("dictget", "dicthas", "dictisin", "naivebayes", "ai")

#: System tables without query texts, key material, errors that quote values, or the machine's secrets.
OPEN_SYSTEM_TABLES = frozenset(
    {"one", "numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "databases", "tables", "columns", "functions",
     "table_functions", "aggregate_function_combinators", "table_engines", "database_engines", "formats",
     "data_type_families", "data_skipping_index_types", "data_skipping_indices", "projections", "collations", "codecs",
     "time_zones", "keywords", "completions", "contributors", "licenses", "settings", "settings_changes",
     "merge_tree_settings", "metrics", "events", "parts", "merges", "disks", "storage_policies", "processes",
     "warnings", "statements", "constraints"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody with a password. ``reads_only`` is the dashboard."""

    name: str
    password: str
    reads_only: bool


@dataclass(frozen=True, slots=True)
class Credentials:
    name: str
    password: str


def credentials(headers: Mapping[str, str], parameters: Mapping[str, str]) -> Credentials | None:
    """From X-ClickHouse-User and -Key, Basic, or ``user`` and ``password``; one way only, as ClickHouse demands."""
    ways: list[Credentials] = []
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        ways.append(Credentials(headers.get("x-clickhouse-user", ""), headers.get("x-clickhouse-key", "")))
    if "authorization" in headers:
        ways.append(_basic(headers["authorization"]))
    if "user" in parameters or "password" in parameters:
        ways.append(Credentials(parameters.get("user", ""), parameters.get("password", "")))
    if len(ways) > 1:
        raise FrontError(
            AUTHENTICATION_FAILED,
            "Invalid authentication: give name and password one way, by X-ClickHouse headers, by Basic or in the URL",
        )
    return ways[0] if ways else None


def _basic(header: str) -> Credentials:
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        raise FrontError(
            AUTHENTICATION_FAILED, "Invalid authentication: the front takes Basic, name:password"
        ) from None
    return Credentials(name, password)


def authenticate(accounts: Iterable[Account], given: Credentials | None) -> Account:
    """The account that this is; the answer does not tell whether the name or the password was wrong."""
    if given is None:
        raise FrontError(REQUIRED_PASSWORD, "Authentication failed: a user and a password are required")
    found: Account | None = None
    for account in accounts:
        # Both are compared in full each time, so that the time taken tells nothing.
        name_fits = hmac.compare_digest(account.name.encode(), given.name.encode())
        password_fits = hmac.compare_digest(account.password.encode(), given.password.encode())
        if name_fits & password_fits:
            found = account
    if found is None:
        raise FrontError(
            AUTHENTICATION_FAILED, "Authentication failed: password is incorrect, or there is no such user"
        )
    return found


class ReadOnlyRules:
    """What a read-only user may ask for. ``check`` takes a statement in the engine's canonical form."""

    def __init__(self, table_functions: Iterable[str]) -> None:
        self._table_functions = {name.lower() for name in table_functions} - HARMLESS

    def database(self, name: str) -> None:
        """The database that names without one belong to; raises FrontError for the engine's own."""
        if name.lower() == "system":
            raise FrontError(ACCESS_DENIED, f"Not enough privileges: no access to database {name[:64]}")

    def check(self, canonical: bytes, parameters: Mapping[str, str]) -> None:
        """Raises FrontError 164 for what is no reading, 497 for what must not be read."""
        words = list(tokens(canonical))
        self._statement(words)
        for text in _texts(words, parameters):
            if any(part.startswith(SECRET_PREFIX) for part in text.split(".")):
                raise FrontError(ACCESS_DENIED, f"Not enough privileges: tables {SECRET_PREFIX}* are not for this user")
        for place, token in enumerate(words):
            following = words[place + 1] if place + 1 < len(words) else None
            if following is None or (name := token.name) is None:
                continue
            if following.is_mark("("):
                self._function(name)
            elif following.is_mark(".") and name.lower() == "system":
                self._system_table(words[place + 2] if place + 2 < len(words) else None)
            elif token.is_word("SETTINGS") and words[place + 2 : place + 3] and words[place + 2].is_mark("="):
                # The engine checks those of the whole query, not those of a subquery.
                raise FrontError(READONLY, f"Cannot modify {following.raw[:64].decode()!r} setting in readonly mode")
        _no_identifier_parameters(words, parameters)

    def _statement(self, words: list[Token]) -> None:
        verb = words[0].raw.upper().decode(errors="replace") if words else ""
        second = words[1].raw.upper().decode(errors="replace") if len(words) > 1 else ""
        if verb not in READING or (verb == "SHOW" and second not in SHOWN):
            raise FrontError(
                READONLY, f"{verb[:32]} {second[:32]}: this user reads only (SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS)"
            )

    def _function(self, name: str) -> None:
        lowered = name.lower()
        if lowered in self._table_functions or lowered in REACHING or lowered.startswith(REACHING_PREFIXES):
            raise FrontError(ACCESS_DENIED, f"Not enough privileges: {name[:64]}() is not for this user")

    def _system_table(self, token: Token | None) -> None:
        name = token.name if token is not None else None
        if name not in OPEN_SYSTEM_TABLES:
            raise FrontError(ACCESS_DENIED, f"Not enough privileges: system.{(name or '?')[:64]} is not for this user")


def _texts(words: Iterable[Token], parameters: Mapping[str, str]) -> Iterable[str]:
    """Names and strings: a table can be meant by either."""
    for token in words:
        if token.kind == "string":
            yield unquote(token.raw)
        elif token.name is not None:
            yield token.name
    yield from parameters.values()


def _no_identifier_parameters(words: list[Token], parameters: Mapping[str, str]) -> None:
    for first, colon, kind in zip(words, words[1:], words[2:], strict=False):
        if colon.is_mark(":") and kind.is_word("IDENTIFIER"):
            value = parameters.get(first.name or "", "")
            if not value.replace("_", "a").isalnum() or value.lower() == "system":
                raise FrontError(BAD_ARGUMENTS, f"parameter {first.name}: this user gives plain column names only")
