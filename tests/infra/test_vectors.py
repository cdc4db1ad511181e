"""The recorded cases: what is counted as passed, failed and stricter, and that no case fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra import vectors
from infra.cli import application


def shown(file: Path, *options: str) -> tuple[int, list[str], str]:
    done = CliRunner().invoke(application("vectors"), ["vectors", str(file), *options])
    return done.exit_code, done.stdout.splitlines(), done.stderr


def case(number: int, group: str, given: object, expected: object) -> vectors.Case:
    return {"id": f"{group}-{number:03d}", "group": group, "input": given, "expected": expected}


def test_cases_are_counted_and_the_status_says_whether_one_failed(tmp_path: Path) -> None:
    good = [
        case(1, "bulk_detect", '{"requests":[]}', True),
        case(2, "bulk_detect", "requests", False),
        case(7, "local_time", {"now": "02:20:17"}, "02:20:17"),  # on the list of what is stricter
        case(1, "retro", "of no concern here", None),
    ]
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"vectors": good}))
    lines = ["bulk_detect: 2 passed, 0 failed, 0 stricter", "local_time: 0 passed, 0 failed, 1 stricter"]
    assert shown(file) == (0, [*lines, "2 passed, 0 failed"], "")
    bad = [case(9, "bulk_detect", "requests", True), case(1, "cdt", {}, "now-1")]
    file.write_text(json.dumps({"vectors": good + bad}))
    status, out, said = shown(file, "--why")
    assert (status, out[0], out[-1]) == (1, "bulk_detect: 2 passed, 1 failed, 0 stricter", "2 passed, 2 failed")
    why = ["bulk_detect-009: gives False, expected True", "cdt-001: gives 'now', expected 'now-1'"]
    assert said.splitlines() == why


def test_a_case_on_the_list_asserts_the_result_there(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = case(7, "local_time", {"now": "02:20:17"}, "02:20:17")
    assert vectors.run(wrong) == vectors.STRICTER
    monkeypatch.setitem(vectors.JUDGES, "local_time", lambda _given: "02:20:17")
    assert vectors.run(wrong) not in (vectors.PASSED, vectors.STRICTER)


@pytest.mark.parametrize("text", ["", "[]", '{"vectors": [1]}', '{"vectors": [{"id": "a", "group": "retro"}]}'])
def test_a_file_without_cases_is_asked_wrongly(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cases.json"
    file.write_text(text)
    assert shown(file)[0] == 2


def test_every_entry_of_the_list_has_a_rule_and_a_reason() -> None:
    entries = json.loads(vectors.LIST.read_text("utf-8"))
    assert all(set(entry) - {"where"} == {"ours", "rule", "reason"} and entry["rule"] for entry in entries.values())


def test_an_entry_holds_for_the_cases_of_its_group_that_meet_its_condition() -> None:
    assert vectors.run(case(999, "local_time", {"now": "11:00:00"}, "11:00:00")) == vectors.STRICTER
    assert vectors.run(case(999, "local_time", {"h": "11", "m": "1", "s": "2"}, "11:01:02")) == vectors.PASSED
    assert vectors.run(case(999, "local_time", {"h": "11", "m": "1", "s": "2"}, "11:00:00")) != vectors.PASSED


def test_few_cases_of_enrichment_are_stricter(vectors: Path) -> None:
    from infra.vectors import PASSED, load, run
    from infra.vectors_enrichment import JUDGES

    groups = load(vectors / "matomo.json")
    outcomes = [run(case) for name in JUDGES for case in groups[name]]
    assert len(outcomes) == 224
    assert len(outcomes) - outcomes.count(PASSED) <= 0.05 * len(outcomes)


def test_no_case_fails(vectors: Path) -> None:
    from infra.vectors import PASSED, STRICTER, load, run

    groups = load(vectors / "matomo.json")
    failed = {
        case["id"]: outcome
        for name in groups
        for case in groups[name]
        if (outcome := run(case)) not in (PASSED, STRICTER)
    }
    assert not failed
