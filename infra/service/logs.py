"""Logs: one JSON object a line on standard error, an event name and its fields, no personal data.

An event is a short name in snake_case (`packet_sent`, `partition_paused`), what varies is in fields. An exception is
logged as its type and where it was raised; its message only when the exception is ours or the system's, since the
message of any other may quote what the process was working on.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
OURS = ("schemas", "ingest", "streams", "gpu_workers", "infra")
FRAMES = 20  # innermost frames of a trace that are kept


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as fields: its type, the message if it is safe to show, the frames from outermost to innermost."""
    kind = type(error)
    fields: dict[str, Any] = {"error": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(error, OSError):
        fields["message"] = error.strerror or ""
    elif kind.__module__.split(".")[0] in OURS:
        fields["message"] = str(error)
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    fields["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    if cause := error.__cause__:
        fields["cause"] = f"{type(cause).__module__}.{type(cause).__qualname__}"
    return fields


def _exceptions(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    if isinstance(found, tuple):
        found = found[1]
    if isinstance(found, BaseException):
        event.update(describe(found))
    return event


def configure(process: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Sets up logging of this process; `process` names it in every line. Libraries log from warning on."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _exceptions,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )

    def name_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"at": event.pop("at"), "level": event.pop("level"), "process": process, **event}

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                name_process,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    for package in OURS:
        logging.getLogger(package).setLevel(LEVELS[level])
    logging.captureWarnings(True)


def logger(name: str) -> FilteringBoundLogger:
    """The logger of a module: `log = logger(__name__)`, then `log.info("packet_sent", partition=3)`."""
    top = name.split(".")[0]
    # A module run with -m is called __main__; its lines must not be taken for a library's.
    return cast(FilteringBoundLogger, structlog.get_logger(name if top in OURS else f"infra.{name}"))
