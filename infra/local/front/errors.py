"""Errors as ClickHouse tells them: a number, a name, an HTTP status.

FrontError
├── refused by the front: raised with its code
└── from_engine(text): what the engine said, its repeated wrappers taken off
"""

from __future__ import annotations

import re

UNEXPECTED_END_OF_FILE = 3
BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
SYNTAX_ERROR = 62
UNKNOWN_FORMAT = 73
UNKNOWN_TYPE_OF_QUERY = 78
UNKNOWN_COMPRESSION_METHOD = 89
UNKNOWN_SETTING = 115
TIMEOUT_EXCEEDED = 159
READONLY = 164
REQUIRED_PASSWORD = 194
TOO_MANY_SIMULTANEOUS_QUERIES = 202
SOCKET_TIMEOUT = 209
QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216
QUERY_IS_TOO_LARGE = 229
ABORTED = 236
MEMORY_LIMIT_EXCEEDED = 241
CANNOT_DECOMPRESS = 271
TOO_MANY_BYTES = 307
INTO_OUTFILE_NOT_ALLOWED = 358
HTTP_LENGTH_REQUIRED = 381
QUERY_WAS_CANCELLED = 394
SETTING_CONSTRAINT_VIOLATION = 452
ACCESS_DENIED = 497
AUTHENTICATION_FAILED = 516
STD_EXCEPTION = 1001

NAMES = {value: name for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)}

#: ClickHouse's own table, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; 500 where it is silent.
STATUSES = {
    **dict.fromkeys((194,), 401),
    **dict.fromkeys((192, 193, 516, 512, 497), 403),
    **dict.fromkeys(
        (
            36,
            427,
            6,
            25,
            26,
            38,
            41,
            72,
            441,
            675,
            676,
            27,
            376,
            15,
            44,
            10,
            16,
            56,
            71,
            167,
            168,
            94,
            62,
            117,
            53,
            321,
        ),
        400,
    ),
    **dict.fromkeys((60, 46, 47, 50, 51, 81, 115, 92, 63, 73, 336, 78, 511), 404),
    229: 413,
    48: 501,
    209: 503,
    76: 503,
    381: 411,
    159: 408,
    439: 503,
}

#: Refusals of the front that ClickHouse has no status for; a client shall see which side was wrong.
OWN_STATUSES = {
    TOO_MANY_BYTES: 413,
    UNEXPECTED_END_OF_FILE: 400,
    CANNOT_DECOMPRESS: 400,
    UNKNOWN_COMPRESSION_METHOD: 415,
}

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]{2,})\)")
_TRAILER = re.compile(r"(?:[\s.]*\((?:version [^()]*(?:\([^()]*\))?|[A-Z][A-Z0-9_]{2,})\))+[\s.]*$")


class FrontError(Exception):
    """One failed request. ``close`` says that what follows on the connection cannot be trusted."""

    def __init__(
        self, code: int, reason: str, *, name: str | None = None, status: int | None = None, close: bool = False
    ):
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.name = name or NAMES.get(code, "UNKNOWN")
        self.status = status or STATUSES.get(code) or OWN_STATUSES.get(code, 500)
        self.close = close

    def text(self, version: str) -> str:
        """As in the body of an error of ClickHouse: the clients take the name from the last brackets in capitals."""
        return f"Code: {self.code}. DB::Exception: {self.reason}. ({self.name}) (version {version})"


def from_engine(problem: BaseException | str) -> FrontError:
    """The engine tells one error in several layers; the first code and the last name are its."""
    text = str(problem)
    code = _CODE.search(text)
    if code is None:
        return FrontError(STD_EXCEPTION, f"std::exception: {text}", name="STD_EXCEPTION")
    names = _NAME.findall(text)
    reason = _TRAILER.sub("", _CODE.sub("", text[code.start() :]))
    return FrontError(int(code[1]), reason, name=names[-1] if names else None)
