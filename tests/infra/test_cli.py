from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infra.cli import main, summaries
from infra.local.kafka import TOP
from infra.local.ports import free

SUBCOMMANDS = [["sites", "list"], ["sites", "add"], ["sites", "check"], ["topics", "list"], ["topics", "ensure"]]
SUBCOMMANDS += [["sites", "show"], ["sites", "token"], ["users", "add"], ["users", "remove"]]
SUBCOMMANDS += [["scale", "streams"]]
SUBCOMMANDS += [["retention", "run"], ["retention", "report"]]
SUBCOMMANDS += [["policy", "show"], ["policy", "explain"], ["policy", "check"]]


def veilstream(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    command = [sys.executable, "-m", "infra.cli", *arguments]
    return subprocess.run(
        command,
        cwd=TOP,
        env={**env, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_command_is_listed_with_a_short_help() -> None:
    shown = veilstream("--help").stdout
    for name, summary in summaries().items():
        assert name in shown
        assert summary, f"{name}: its module's docstring must read `veilstream {name}`: what it does"


@pytest.mark.parametrize("words", [[name] for name in summaries()] + SUBCOMMANDS, ids=" ".join)
def test_every_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*words, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: veilstream {' '.join(words)}")
    assert len(shown.splitlines()) > 4


def test_help_loads_no_command() -> None:
    code = "import sys; from infra.cli import application; application('status'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "infra.cli.status" in loaded
    assert "infra.cli.migrate" not in loaded
    for heavy in ("pyarrow", "chdb", "faust", "kafka", "numpy"):
        assert heavy not in loaded


def test_a_wrong_command_is_asked_wrongly() -> None:
    done = veilstream("statsu")
    assert done.returncode == 2
    assert "status" in done.stderr


def test_a_wrong_setting_is_named_in_one_line() -> None:
    done = veilstream("status", VEILSTREAM_COLLECTOR_PORT="http")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "VEILSTREAM_COLLECTOR_PORT" in done.stderr


def test_a_failure_is_one_line_and_no_trace() -> None:
    (port,) = free(1)
    done = veilstream("migrate", VEILSTREAM_CLICKHOUSE_URL=f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(port) in done.stderr
