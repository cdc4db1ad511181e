"""Privacy rules: presets, where values are from, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.privacy import (
    PRESETS,
    RULES,
    Detector,
    LocalTime,
    Location,
    Orders,
    PageViewIds,
    Privacy,
    PrivacyError,
    Referrers,
    UrlParameters,
    Values,
    VisitorIds,
    of_preset,
    resolve,
)
from schemas.sites import PolicySet, SitePolicy, SitesError, load_sites


def test_the_default_keeps_nothing_that_names_a_person() -> None:
    assert Privacy() == of_preset("no-personal-data")
    assert Privacy().lasting == () == Privacy().granted().lasting
    assert not Privacy().needs_site_key


@pytest.mark.parametrize("name", ["consent-required", "matomo-default"])
def test_presets_that_keep_ids_say_so(name: str) -> None:
    assert of_preset(name).lasting
    assert of_preset(name).needs_site_key


def test_the_first_that_names_a_rule_decides_it() -> None:
    found, sources = resolve(
        {
            "7.toml": {"mask_bytes": 3, "dimensions": {"4": "keep", "2": "day"}},
            "default.toml": {"preset": "matomo-default", "mask_bytes": 1, "referrer": "exclude_all"},
        }
    )
    assert (found.preset, found.mask_bytes, found.referrer) == ("matomo-default", 3, Referrers.EXCLUDE_ALL)
    assert found.user_ids is Values.KEEP
    assert list(found.dimensions.items()) == [(2, Values.DAY), (4, Values.KEEP)]
    assert sources["mask_bytes"] == "7.toml"
    assert sources["referrer"] == sources["preset"] == "default.toml"
    assert sources["user_ids"] == "preset matomo-default"
    assert set(sources) == set(RULES)


def test_a_children_site_keeps_no_identifier_whatever_else_is_set() -> None:
    found, sources = resolve({"7.toml": {"preset": "matomo-default", "children": True, "user_ids": "keep"}})
    assert (found.visitor_ids, found.user_ids, found.mask_bytes) == (VisitorIds.REQUEST, Values.DROP, 5)
    assert sources["user_ids"] == "children"
    assert not found.needs_site_key
    assert (found.page_view_ids, found.order_ids, found.location) == (PageViewIds.DROP, Orders.DROP, Location.COUNTRY)
    assert (found.custom_variables, found.custom_dimensions, found.dimensions) == (Values.DROP, Values.DROP, {})
    assert (found.do_not_track, found.global_privacy_control, found.plugins, found.resolution) == (
        True,
        True,
        False,
        False,
    )
    assert (found.url_parameters, found.referrer) == (UrlParameters.LISTED, Referrers.EXCLUDE_PATH)
    assert (found.device_model, found.device_versions, found.local_time) == (False, False, LocalTime.HOUR)
    open_, _ = resolve({"7.toml": {"children": True, "keep_fragment": True, "allowed_parameters": ["session"]}})
    assert (open_.keep_fragment, open_.allowed_parameters) == (False, ())


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"mask_bytes": 6}, "mask_bytes"),
        ({"mask_bytes": "2"}, "mask_bytes"),
        ({"preset": "none"}, "preset"),
        ({"surname": True}, "surname"),
        ({"referrer": "host"}, "privacy.referrer is 'host', must be one of keep, exclude_query"),
        ({"page_view_ids": "site"}, "page_view_ids is 'site', must be one of drop, day, keep"),
        ({"dimensions": {"1000": "keep"}}, "dimensions"),
        ({"excluded_parameters": ["/a(/"]}, "excluded_parameters"),
        ({"excluded_lists": ["other"]}, "excluded_lists"),
        ({"masked_paths": ["users/*"]}, "masked_paths"),
        ({"detectors": ["email", "mail"]}, r"detectors holds 'mail', must be among email, phone"),
        ({"detectors": True}, "detectors"),
        ({"with_consent": "matomo-default"}, "with_consent"),
        ({"consent": "aware", "with_consent": "x"}, "with_consent"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, table: dict[str, object], named: str) -> None:
    with pytest.raises(PrivacyError, match=named):
        resolve({"1.toml": table})


def test_a_wrong_rule_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text('[privacy]\npreset = "none"\n')
    with pytest.raises(SitesError, match=r"1\.toml.*preset.*matomo-default"):
        load_sites(tmp_path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_set_of_policies_is_read_as_it_was_written(name: str) -> None:
    found, _ = resolve(
        {"1.toml": {"preset": name, "dimensions": {"2": "day"}, "excluded_parameters": ["B", "/x/", "a"]}}
    )
    policies = PolicySet({1: SitePolicy(privacy=found)})
    read = PolicySet.load(policies.dump())
    assert read.version == policies.version
    assert read.of(1) == policies.of(1)


def test_detectors_are_on_but_in_matomos_preset_and_switched_by_kind() -> None:
    assert {name for name in PRESETS if set(of_preset(name).detectors) == set(Detector)} == set(PRESETS) - {
        "matomo-default"
    }
    assert of_preset("matomo-default").detectors == ()
    found, sources = resolve({"1.toml": {"detectors": ["card", "email", "card"]}})
    assert (found.detectors, sources["detectors"]) == ((Detector.EMAIL, Detector.CARD), "1.toml")
    assert resolve({"1.toml": {"preset": "matomo-default", "children": True}})[0].detectors == tuple(Detector)
    asked, _ = resolve({"1.toml": {"preset": "cnil-exempt", "detectors": ["email"]}})
    assert asked.granted().detectors == (Detector.EMAIL,)


def test_a_set_of_policies_from_before_there_were_detectors_is_read() -> None:
    policies = PolicySet({1: SitePolicy()})
    text = policies.canonical.decode()
    older = re.sub(r'"detectors":\[[^\]]*\],', "", text)
    assert older != text
    read = PolicySet.load(older.encode()).of(1)
    assert read is not None
    assert read.privacy.detectors == tuple(Detector)
