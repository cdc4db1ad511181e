"""What the README says is so: its commands, options, folders, settings and SQL exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.cli import main
from infra.migrate import open_database
from infra.service.settings import PREFIX, Settings

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text("utf-8")
COMMANDS = sorted(set(re.findall(r"\./run ((?:[a-z][a-z-]*|--[a-z-]+|[A-Za-z]+)(?: [^\n`|;#]*)?)", README)))


def test_the_readme_names_the_two_commands() -> None:
    assert re.search(r"^\./run demo\b", README, re.MULTILINE)
    assert re.search(r"^\./run test\b", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_of_the_readme_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.split()
    names = [words[0]]
    if words[0] in ("policy", "rejects", "retention", "scale", "sites", "topics", "users", "vault"):
        names.append(words[1])
    with pytest.raises(SystemExit) as done:
        main([*names, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    for option in re.findall(r"--[a-z][a-z-]*", line):
        assert option in shown


def test_every_setting_of_the_readme_exists() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = set(re.findall(r"VEILSTREAM_[A-Z0-9_]+", README))
    assert found
    assert found <= known


def test_the_folders_of_the_readme_are_those_of_the_project() -> None:
    listed = {name.rstrip("/") for name in re.findall(r"^\| `([a-z_]+/)` \|", README, re.MULTILINE)}
    present = {path.name for path in TOP.iterdir() if (path / "__init__.py").is_file()}
    assert listed == present


def test_the_query_of_the_readme_runs(installation: Settings) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    assert "veilstream.events" in query
    with open_database(installation) as client:
        client.query(query.replace("veilstream.events", "events"))
