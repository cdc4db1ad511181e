"""Detectors: what is masked in which context and encoding, how much of it, and what no text can do to them."""

from __future__ import annotations

import base64
import re
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.privacy import Detector
from streams.anonymize import detect
from streams.anonymize.detect import cards, emails, ibans, names, national, network, phones, tokens, unfolding
from streams.anonymize.detect.screening import screened
from streams.anonymize.detect.unfolding import traced, unfolded
from streams.anonymize.split import RAW_LIMIT
from tests.streams.anonymize.detect import corpus

LIMIT = 1024


def masked(text: str) -> str:
    return detect.mask(text, detect.ALL, LIMIT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail jo@example.com now", "mail [email] now"),
        ("Jo.Doe+tag@Mail.EXAMPLE.co.uk, thanks", "[email], thanks"),
        ("жанна@пример.рф", "[email]"),
        ("mailto:jo@example.com?subject=x", "mailto:[email]?subject=x"),
        ("/a/jo@example.com.html", "/a/[email].html"),
        ("logo@2x.png lodash@4.17.21 @home a@b price @ 5.00", "logo@2x.png lodash@4.17.21 @home a@b price @ 5.00"),
        ("call +49 (0)30 123456 today", "call [phone] today"),
        ("tel:0171-1234567", "tel:[phone]"),
        ("(212) 555-0123 or 01 23 45 67 89", "[phone] or [phone]"),
        ("Tel. 030/1234567 / 0171 7654321", "Tel. [phone] / [phone]"),
        ("phone=5551234&x=1", "phone=[phone]&x=1"),
        ("電話：０３－１２３４－５６７８", "電話：[phone]"),
        ("01.02.2024 12:30 2024-01-02 1 234 567 € 0.123456789", "01.02.2024 12:30 2024-01-02 1 234 567 € 0.123456789"),
        ("IBAN: DE89 3704 0044 0532 0130 00.", "IBAN: [iban]."),
        ("gb29nwbk60161331926819", "[iban]"),
        ("DE89370400440532013001", "DE89370400440532013001"),
        ("4111-1111-1111-1111 exp 12/30", "[card] exp 12/30"),
        ("378282246310005", "[card]"),
        ("4111111111111112 0.4111111111111111", "4111111111111112 0.4111111111111111"),
        ("Steuer-ID 86 095 742 719", "Steuer-ID [national_id]"),
        ("12345678Z X1234567L RSSMRA85T10A562S", "[national_id] [national_id] [national_id]"),
        ("BSN: 111222333", "BSN: [national_id]"),
        ("order 111222333", "order 111222333"),
        ("85.07.30-033.28 131052-308T 078-05-1120", "[national_id] [national_id] [national_id]"),
        ("AB 12 34 56 C and 2 55 08 14 168 025 38", "[national_id] and [national_id]"),
        ("44051401359 811218-9876", "[national_id] [national_id]"),
        ("token 9f1c2d9f1c2d9f1c2d9f1c2d9f1c2d9f", "token [token]"),
        ("/app.9f1c2d9f1c2d9f1c2d9f1c2d9f1c2d9f.js", "/app.9f1c2d9f1c2d9f1c2d9f1c2d9f1c2d9f.js"),
        ("?access_token=abcDEF123456ghiJKL7890", "?access_token=[token]"),
        ("?user=550e8400-e29b-41d4-a716-446655440000", "?user=[token]"),
        ("/p/550e8400-e29b-41d4-a716-446655440000", "/p/550e8400-e29b-41d4-a716-446655440000"),
        ("key AKIAIOSFODNN7EXAMPLE ok", "key [token] ok"),
        ("from 81.2.69.142 and 2001:db8:85a3::8a2e:370:7334", "from [ip] and [ip]"),
        ("v1.2.3.4 Chrome/120.0.0.0 81.2.0.0 2a01:4f8:: ::1", "v1.2.3.4 Chrome/120.0.0.0 81.2.0.0 2a01:4f8:: ::1"),
        ("device A4:5C:00:11:22:33", "device [mac]"),
        ("/users/jo.doe/orders?page=2", "/users/[name]/orders?page=2"),
        ("/users/view/jane /user//jo /user/id/7", "/users/view/[name] /user//[name] /user/id/[name]"),
        ("/account/edit/password /user/view", "/account/edit/password /user/view"),
        ("jo@example.com_x jo@example.com-x", "[email]_x jo@example.com-x"),
        ("/~jo/ /profile/jane /u/4711", "/~[name]/ /profile/[name] /u/[name]"),
        ("/users/12345/jane-doe /users/12345/orders", "/users/[name]/[name] /users/[name]/orders"),
        ("at /profile/O'Brien, '/user/jane' and /user/Jane Doe", "at /profile/[name], '/user/[name]' and /user/[name]"),
        ("/user/Doe,Jane /user/en/jane.doe", "/user/[name] /user/en/[name]"),
        ("(0221) / 12345 and (06221) / 54321", "[phone] and [phone]"),
        ("RSS+MRA+85T10+A562S RSSMRA85T10+A562S", "[national_id] [national_id]"),
        ("4111_1111_1111_1111 4111/1111/1111/1111 DE89_3704_0044_0532_0130_00", "[card] [card] [iban]"),
        ("/account/login /user/order-history /maps/@52.5,13.4", "/account/login /user/order-history /maps/@52.5,13.4"),
    ],
)
def test_what_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', b"0123456789abcdef0123456789abcdef")
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a?mail=jo%40example.com&b=1", "/a?mail=[email]&b=1"),
        ("/a?mail=jo%2540example.com&b=1", "/a?mail=[email]&b=1"),
        ("/a?mail=%6a%6F%40%65%78ample%2ecom&b=1", "/a?mail=[email]&b=1"),
        ("/a?mail=jo%2Btag%40example.com", "/a?mail=[email]"),
        ("/a?tel=%2B49+30+123456&b=1", "/a?tel=[phone]&b=1"),
        ("/a?card=4111+1111+1111+1111", "/a?card=[card]"),
        ("/a?to=https%3A%2F%2Fx.de%2F%3Fm%3Djo%2540x.de%26p%3D2", "/a?to=https%3A%2F%2Fx.de%2F%3Fm%3D[email]%26p%3D2"),
        ("jo&#64;example&#x2e;com", "[email]"),
        ("jo&#00000064;corp。example 030⁻1234567", "[email] [phone]"),
        ("am9AZXhhbXBsZS5jb20K re:+am9AZXhhbXBsZS5jb20= id-am9AZXhhbXBsZS5jb20=", "[email] re:+[email] id-[email]"),
        ("jo&#64example&#46com", "[email]"),
        ("jo\ufe0f@exam\u034fple.com", "[email]"),
        ("jo&commat;example.com", "[email]"),
        ("４１１１ １１１１ １１１１ １１１１", "[card]"),
        ("jo\u200b@exam\u00adple.com", "[email]"),
        ("\u202a+49\u00a030\u00a0123456\u202c", "\u202a[phone]\u202c"),
        ("٠١٧١ ١٢٣٤٥٦٧", "[phone]"),
        ("/a?x=" + base64.b64encode(b"jo@example.com").decode(), "/a?x=[email]"),
        ("/a?x=" + base64.b64encode(b"jo@example.com?").decode().replace("=", "%3D"), "/a?x=[email]"),
        ("/unsubscribe/" + base64.urlsafe_b64encode(b"jo@example.com").decode(), "/unsubscribe/[email]"),
        (f"/a?t={JWT}#x", "/a?t=[token]#x"),
        ("404/URL = %2Fusers%2Fjo%3Fa%3D1/From = x", "404/URL = %2Fusers%2F[name]%3Fa%3D1/From = x"),
        ("caf%C3%A9%20jo%40example.com%20%E2%82%AC", "caf%C3%A9%20[email]%20%E2%82%AC"),
        ("%E9jo%40example.com", "%E9[email]"),
    ],
)  # fmt: skip
def test_what_is_masked_in_encodings(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_each_kind_can_be_switched_off() -> None:
    values = {
        Detector.EMAIL: "jo@example.com",
        Detector.PHONE: "+49 30 123456",
        Detector.IBAN: "DE89370400440532013000",
        Detector.CARD: "4111111111111111",
        Detector.NATIONAL_ID: "86095742719",
        Detector.TOKEN: "AKIAIOSFODNN7EXAMPLE",
        Detector.IP: "81.2.69.142",
        Detector.MAC: "a4:5c:00:11:22:33",
        Detector.NAME: "/users/jo",
    }
    assert set(values) == set(detect.FINDERS) == set(Detector)
    for kind, value in values.items():
        assert f"[{kind}]" in detect.mask(value, {kind}, LIMIT)
        assert detect.mask(value, detect.ALL - {kind}, LIMIT) == value
    assert detect.mask(" ".join(values.values()), (), LIMIT) == " ".join(values.values())


# -- how much -------------------------------------------------------------------------------------------------------


def found(text: str) -> list[tuple[int, int, str]]:
    return [(first, last, str(kind)) for first, last, kind in detect.search(text, detect.ALL)]


def test_recall_and_precision_on_the_corpus() -> None:
    result = corpus.score(corpus.samples(seed=20261126, each=500), found)
    for kind in corpus.KINDS:
        assert result.recall(kind) >= 0.99, [sample for sample in result.missed if sample.kind == kind]
        assert result.precision(kind) >= 0.98, [sample for sample, wrong in result.mistaken if wrong == kind]


def test_the_corpus_tells_a_detector_that_finds_nothing_or_everything() -> None:
    few = list(corpus.samples(seed=1, each=20))
    assert corpus.score(few, lambda text: []).recall("email") == 0.0
    everything = corpus.score(few, lambda text: [(0, len(text), "email")])
    assert everything.recall("email") == 1.0
    assert everything.precision("email") < 0.1
    assert few == list(corpus.samples(seed=1, each=20))


# -- any text -------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(
            "jo",
            "@",
            "example.com",
            "%40",
            "%2540",
            "&#64;",
            " ",
            "+",
            "-",
            ".",
            "/",
            "(",
            ")",
            ":",
            "=",
            "&",
            "[",
            "]",
        ),
        *("0", "00", "49", "30 123456", "4111 1111 1111 1111", "1111", "DE89", "37040044 0532013000", "86095742719"),
        *("/user/", "/~", "eyJhbGciOi", "9f1c2d9f1c2d9f1c", "81.2.", "69.142", "::", "a4:5c:00:", "11:22:33", "tel "),
        *("é", "４", "１", "\u200b", "東", "%E9", "%", "\ud800", "\n", "AKIAIOSFODNN7EXAMPLE", "am9AZXhhbXBsZS5jb20="),
        *("[email]", "[phone]", "token=", "12345678Z", "131052-308T", "&amp;", "xn--", "_", ",", "BSN ", "x"),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=24).map("".join), st.text(max_size=60))
KINDS = st.sets(st.sampled_from(list(Detector)))


@settings(max_examples=600, deadline=None)
@given(TEXTS, KINDS, st.integers(0, 80))
def test_masking_twice_is_masking_once_and_leaves_nothing(text: str, kinds: set[Detector], limit: int) -> None:
    for room in (limit, LIMIT):
        once = detect.mask(text, kinds, room)
        assert len(once.encode("utf-8", "replace")) <= max(room, 13 if kinds else 0)
        assert detect.mask(once, kinds, room) == once
        assert detect.search(once, kinds) == []


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_the_screening_leaves_out_no_detector_that_finds_something(text: str) -> None:
    plain = unfolded(text)
    kinds = {kind for kind, find in detect.FINDERS.items() if any(find(plain))}
    assert kinds <= set(screened(plain).detectors)


def test_the_screening_leaves_out_nothing_of_the_corpus() -> None:
    for sample in corpus.samples(seed=5, each=60):
        plain = unfolded(sample.text)
        assert {kind for kind, find in detect.FINDERS.items() if any(find(plain))} <= set(screened(plain).detectors)


def test_ordinary_texts_meet_no_detector() -> None:
    texts = ["Red Garden – Sale | Shop 1", "/products/red-blue-shoes-123.html", "Video", "größe 42", "size & colour"]
    assert [screened(unfolded(text)).detectors for text in texts] == [()] * len(texts)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_places_in_the_original_follow_from_the_unfolded_text(text: str) -> None:
    plain, starts, ends = traced(text)
    assert plain == unfolded(text)
    assert len(plain) == len(starts) == len(ends)
    assert all(0 <= first < last <= len(text) for first, last in zip(starts, ends, strict=True))
    assert starts == sorted(starts)


@settings(max_examples=300, deadline=None)
@given(TEXTS, KINDS)
def test_what_all_detectors_leave_alone_every_few_do(text: str, kinds: set[Detector]) -> None:
    if detect.mask(text, detect.ALL, LIMIT) == text:
        assert detect.mask(text, kinds, LIMIT) == text


# -- hostile texts --------------------------------------------------------------------------------------------------

HOSTILE = (
    *("a@", "@", "a@a.", "a.", "a-", "@a.b", "jo@example.com"),
    *("1 ", "1", "0 1", "+49", "00", "(1)", "1-", "1.", "01 23 45 67 89 ", "4111 ", "411111"),
    *("DE89 ", "DE89", "A1", "eyJ", "eyJa.", "f", "f1.", "token=", "token ", "1:", "::", "a:", "aa-", "1.1.1.1."),
    *("/user/", "/~", "/u/a", "%", "%25", "%2525", "%40", "&#64;", "&", "é", "４", "a/", "aA1/", "aA1_", "=", "["),
)


def steps(text: str) -> int:
    """How many calls, of Python and of C, masking a text takes."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        detect.mask(text, detect.ALL, LIMIT)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("piece", HOSTILE)
def test_steps_grow_no_faster_than_a_text(piece: str) -> None:
    whole = (piece * RAW_LIMIT)[:RAW_LIMIT]
    assert steps(whole) <= 2.5 * steps(whole[: RAW_LIMIT // 2]) + 200


def expressions() -> dict[str, re.Pattern[str]]:
    out: dict[str, re.Pattern[str]] = {}
    for module in (detect, cards, emails, ibans, names, national, network, phones, tokens, unfolding):
        for name, value in vars(module).items():
            pattern = getattr(value, "__self__", value)
            if isinstance(pattern, re.Pattern):
                out[f"{module.__name__}.{name}"] = pattern
    out |= {f"national {number.country} {at}": number.pattern for at, number in enumerate(national.NUMBERS)}
    return out


def nested(tree: Any, inside: bool = False) -> bool:
    """Whether one repetition without a bound stands within another."""
    for op, argument in tree:
        if str(op) in ("MAX_REPEAT", "MIN_REPEAT"):
            _, high, inner = argument
            endless = high > RAW_LIMIT
            if (endless and inside) or nested(inner, inside or endless):
                return True
        elif str(op) == "SUBPATTERN":
            if nested(argument[3], inside):
                return True
        elif str(op) == "BRANCH":
            if any(nested(branch, inside) for branch in argument[1]):
                return True
        elif str(op) in ("ASSERT", "ASSERT_NOT") and nested(argument[1], inside):
            return True
    return False


def parsed(pattern: str) -> Any:
    return re._parser.parse(pattern)  # type: ignore[attr-defined]


def test_no_expression_repeats_without_bound_within_a_repetition() -> None:
    assert nested(parsed("(a+)+"))
    assert nested(parsed("(?:x|(?:a*b)*)"))
    assert not nested(parsed("(?:a+b){3}"))
    all_ = expressions()
    assert len(all_) > 40
    assert [name for name, pattern in all_.items() if nested(parsed(pattern.pattern))] == []


def test_a_text_whose_values_never_end_becomes_one_placeholder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "PASSES", 1)
    assert detect.mask("a jo@example.com b", detect.ALL, LIMIT) == "[email]"
    assert detect.mask("a b", detect.ALL, LIMIT) == "a b"
