"""What the policy commands print follows from the rules in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra import privacy
from schemas.privacy import (
    PRESETS,
    RULES,
    Consent,
    Detector,
    LocalTime,
    Privacy,
    PrivacyError,
    UrlParameters,
    Values,
    VisitorIds,
    of_preset,
    resolve,
)
from schemas.recordings import Recordings
from schemas.sites import SitePolicy
from tests.infra.test_cli import veilstream

OTHER: dict[str, object] = {
    "mask_bytes": 3,
    "allowed_parameters": ("colour",),
    "excluded_parameters": ("colour",),
    "excluded_lists": ("personal",),
    "detectors": (Detector.EMAIL,),
    "masked_paths": ("/users/*",),
    "dimensions": {3: Values.KEEP},
}
UNSAID = {
    "preset",
    "children",
    "search_parameters",
    "search_category_parameters",
    "with_consent",
}  # names of sets of rules, and no rule of privacy


def changed(rules: Privacy, name: str) -> list[Privacy]:
    """The rules with another value of this one, whatever value there is."""
    kind = next(field.type for field in msgspec.structs.fields(Privacy) if field.name == name)
    now = getattr(rules, name)
    others = [not now] if kind is bool else [OTHER[name]] if name in OTHER else [v for v in kind if v != now]
    return [msgspec.structs.replace(rules, **{name: value}) for value in others]


@pytest.mark.parametrize("preset", ["no-personal-data", "matomo-default"])
@pytest.mark.parametrize("name", [name for name in RULES if name not in UNSAID])
def test_every_rule_changes_what_is_explained(preset: str, name: str) -> None:
    rules = of_preset(preset)
    if name == "allowed_parameters" and preset == "matomo-default":
        pytest.skip("an allow-list is not in force there")
    if name in ("excluded_parameters", "excluded_lists") and preset == "no-personal-data":
        pytest.skip("lists of exclusions are not in force there")
    said = privacy.explain(SitePolicy(privacy=rules))
    for other in changed(rules, name):
        assert privacy.explain(SitePolicy(privacy=other)) != said


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_called_what_it_is(preset: str) -> None:
    first = privacy.explain(SitePolicy(privacy=of_preset(preset)))[0]
    assert (privacy.PERSONAL in first) == (preset != "no-personal-data")


def test_the_default_does_not_leak_and_matomos_does() -> None:
    assert privacy.check(Privacy()) == []
    names = {finding.name for finding in privacy.check(of_preset("matomo-default"))}
    assert {
        "user-ids-beside-masked-addresses",
        "lasting-ids-with-full-referrers",
        "fingerprint-of-full-address",
        "texts-with-email-addresses",
    } <= names
    asked = msgspec.structs.replace(of_preset("matomo-default"), consent=Consent.REQUIRED)
    assert "lasting-ids-without-consent" in names
    assert "lasting-ids-without-consent" not in {finding.name for finding in privacy.check(asked)}


@pytest.mark.parametrize(
    ("rules", "finding"),
    [
        ({"detectors": ()}, "texts-with-email-addresses"),
        ({"detectors": (Detector.EMAIL,)}, "values-that-no-detector-looks-for"),
        ({"allowed_parameters": ("page", "e-mail")}, "personal-parameters-on-the-allow-list"),
        ({"allowed_parameters": ("phpsessid",)}, "personal-parameters-on-the-allow-list"),
        ({"url_parameters": UrlParameters.ALL, "excluded_lists": ()}, "open-parameters"),
        ({"resolution": True, "device_versions": True, "plugins": True}, "devices-tell-visitors-apart"),
        ({"local_time": LocalTime.SECOND}, "clocks-tell-visitors-apart"),
    ],
)
def test_what_lets_personal_data_through_is_called_so(rules: dict[str, Any], finding: str) -> None:
    loose = msgspec.structs.replace(Privacy(), **rules)
    assert privacy.PERSONAL in privacy.explain(SitePolicy(privacy=loose))[0]
    assert finding in {found.name for found in privacy.check(loose)}


@pytest.mark.parametrize(
    "rules",
    [
        {"visitor_ids": VisitorIds.REQUEST, "user_ids": Values.KEEP},
        {"consent": Consent.AWARE, "visitor_ids": VisitorIds.SITE, "user_ids": Values.KEEP},
    ],
)
def test_ids_that_are_not_read_are_not_said_to_be_stored(rules: dict[str, Any]) -> None:
    unread = msgspec.structs.replace(Privacy(), **rules)
    said = privacy.explain(SitePolicy(privacy=unread))
    assert "Visitor ids and user ids are not read." in said
    assert "The user id is not stored." in said
    assert sum(text.startswith(("Visitor ids", "The user id")) for text in said) == 2
    assert privacy.check(unread) == []


def test_what_a_site_says_of_consent_goes_before_its_preset() -> None:
    for consent in ("required", "ignored"):
        found, _ = resolve({"1.toml": {"preset": "cnil-exempt", "consent": consent}})
        assert found.granted() is found
    with pytest.raises(PrivacyError, match='with_consent needs consent = "aware"'):
        resolve({"1.toml": {"consent": "required", "with_consent": "cnil-exempt"}})


def test_parameters_of_a_shop_may_be_listed() -> None:
    listed = msgspec.structs.replace(Privacy(), allowed_parameters=("colour", "page"))
    assert privacy.PERSONAL not in privacy.explain(SitePolicy(privacy=listed))[0]
    assert privacy.check(listed) == []


def test_recordings_are_explained_as_they_are() -> None:
    said = privacy.explain(SitePolicy())
    assert "Recordings of sessions and heatmaps are refused." in said
    assert not any("Heatmaps are kept" in text for text in said)
    rules = Recordings(enabled=True, share=0.25, unmask=(".article",))
    text = " ".join(privacy.explain(SitePolicy(recordings=rules)))
    for part in ("Of 25 % of the sessions", "elements that are .article", "Recordings of sessions are kept until"):
        assert part in text
    assert "No text is shown" in " ".join(privacy.explain(SitePolicy(recordings=Recordings(enabled=True, unmask=()))))


def test_commands(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text("[privacy]\nmask_bytes = 3\n[retention]\nevents = 400\n")
    (tmp_path / "1.toml").write_text('[privacy]\nreferrer = "exclude_all"\n')
    (tmp_path / "2.toml").write_text('[privacy]\npreset = "matomo-default"\n')
    shown = veilstream("policy", "show", "1", "--json", VEILSTREAM_SITES_DIR=str(tmp_path))
    rules, retention = (json.loads(shown.stdout.splitlines()[-1])[name] for name in ("rules", "retention"))
    assert retention == {
        "events": {"value": 400, "from": "default.toml"},
        **{kind: {"value": None, "from": "unless set"} for kind in ("rejects", "recordings", "heatmap")},
    }
    assert rules["mask_bytes"] == {"value": 3, "from": "default.toml"}
    assert rules["referrer"] == {"value": "exclude_all", "from": "1.toml"}
    assert rules["user_ids"] == {"value": "drop", "from": "preset no-personal-data"}
    explained = veilstream("policy", "explain", "1", VEILSTREAM_SITES_DIR=str(tmp_path))
    assert "without the last 3 of its 4 bytes" in explained.stdout
    assert "Rows of events are kept for 400 days" in explained.stdout
    assert "could not be stored are kept until they are erased" in explained.stdout
    assert veilstream("policy", "check", "1", VEILSTREAM_SITES_DIR=str(tmp_path)).returncode == 0
    checked = veilstream("policy", "check", "--json", VEILSTREAM_SITES_DIR=str(tmp_path))
    assert checked.returncode == 1
    assert {finding["site"] for finding in json.loads(checked.stdout)["findings"]} == {2}
    missing = veilstream("policy", "show", "9", VEILSTREAM_SITES_DIR=str(tmp_path))
    assert missing.returncode == 1
    assert "no site 9" in missing.stderr
