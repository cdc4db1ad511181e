"""The closed lists of reasons why an event has no row. Nothing else may be written as a reason."""

from __future__ import annotations

from enum import StrEnum


class Excluded(StrEnum):
    """The event was understood, and the rules say that it is not kept."""

    NOT_RECORDED = "not_recorded"  # rec is not 1
    PING_WITHOUT_VISIT = "ping_without_visit"  # a heartbeat that found no open visit
    OPTED_OUT = "opted_out"  # the visitor's opt-out cookie
    DO_NOT_TRACK = "do_not_track"  # the browser sends DNT, and the site heeds it
    GLOBAL_PRIVACY_CONTROL = "global_privacy_control"  # the browser sends Sec-GPC, and the site heeds it
    NO_CONSENT = "no_consent"  # the site stores nothing without the visitor's consent
    PREFETCH = "prefetch"  # the browser fetched the page without showing it


class Rejected(StrEnum):
    """The event could not be understood or processed."""

    BAD_PACKET = "bad_packet"  # the Kafka record is not a packet
    UNKNOWN_SITE = "unknown_site"  # the site is not in the policy that the packet names
    BAD_PARAMETER = "bad_parameter"  # a parameter that Matomo answers with 400, inside an accepted event
    INTERNAL_ERROR = "internal_error"  # a stage failed on this event alone


class Invalid(StrEnum):
    """The collector refused the request or the item of a bulk; it was never acknowledged."""

    UNKNOWN_SITE = "unknown_site"
    MISSING_SITE = "missing_site"
    BAD_PARAMETER = "bad_parameter"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
