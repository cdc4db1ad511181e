"""``python -m infra.local.front``: the front as a process, until SIGTERM or SIGINT.

Exit status: 0 stopped, 1 the port or the engine's folder cannot be had, 2 a bad setting.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.local.front.settings import FrontSettings, SettingsError, load
from infra.service import logs
from infra.service.signals import on_stop

BAD_SETTING = 2
HARD_STOP = 10.0  # seconds past stop_seconds after which the process leaves in any case


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.front", description=__doc__)
    parser.add_argument("--path", type=Path, help="folder of the engine: its data, its configuration")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, help="0 takes a free one, told in the log line front_ready")
    parser.add_argument("--config", type=Path, help="TOML file with settings of FrontSettings")
    parser.add_argument("--log-level", default="info", choices=list(logs.LEVELS))
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Runs the front; returns the exit status."""
    arguments = _arguments(sys.argv[1:] if given is None else given)
    try:
        settings = load({"path": arguments.path, "host": arguments.host, "port": arguments.port}, arguments.config)
    except SettingsError as problem:
        print(problem, file=sys.stderr)
        return BAD_SETTING
    logs.configure("front", arguments.log_level)
    return run(settings)


def run(settings: FrontSettings) -> int:
    # The engine takes its time zone from here; the same rows shall come on every machine.
    os.environ["TZ"] = "UTC"
    # Imported late: loading the engine takes a quarter of a second, a bad setting shall not.
    from infra.local.front.engine import EngineUnavailable
    from infra.local.front.server import Front

    log = logs.logger("infra.local.front")
    try:
        front = Front(settings)
    except OSError as problem:
        log.error("port_unavailable", host=settings.host, port=settings.port, reason=problem.strerror)
        return 1
    try:
        front.open()
    except EngineUnavailable as problem:
        log.error("engine_unavailable", reason=str(problem))
        return 1
    on_stop(front.stop, deadline=settings.stop_seconds + HARD_STOP)
    log.info("front_ready", host=settings.host, port=front.port)
    front.serve()
    log.info("front_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
