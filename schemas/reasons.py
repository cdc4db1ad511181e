"""The closed lists of reasons why an event has no row. Nothing else may be written as a reason."""

from __future__ import annotations

from enum import StrEnum


class Excluded(StrEnum):
    """The event was understood, and the rules say that it is not kept."""

    BOT = "bot"  # the agent names a crawler or a monitor; not with bots=1, nor where the site keeps bots
    BOT_ADDRESS = "bot_address"  # the address is in a network of crawlers; as above
    NOT_RECORDED = "not_recorded"  # rec is not 1
    EXCLUDED_REQUEST = "excluded_request"  # a parameter is as the site's excluded_requests say
    EXCLUDED_ADDRESS = "excluded_address"  # the site's excluded_addresses hold the address
    EXCLUDED_AGENT = "excluded_agent"  # the site's excluded_agents mean the agent
    REFERRER_SPAM = "referrer_spam"  # the referrer is on the public list of spammers
    UNKNOWN_URL = "unknown_url"  # the page is none of the site's, which asks for that (exclude_unknown_urls)
    PING_WITHOUT_VISIT = "ping_without_visit"  # a heartbeat that found no open visit
    OPTED_OUT = "opted_out"  # the visitor's opt-out cookie
    DO_NOT_TRACK = "do_not_track"  # the browser sends DNT, and the site heeds it
    GLOBAL_PRIVACY_CONTROL = "global_privacy_control"  # the browser sends Sec-GPC, and the site heeds it
    RECORDING = "recording"  # a part of a recording or heatmap (hsr_ev, hsr_sr), at a site that takes none
    NO_CONSENT = "no_consent"  # the site stores nothing without the visitor's consent
    PREFETCH = "prefetch"  # the browser fetched the page without showing it


class Unrecorded(StrEnum):
    """A chunk of a recording has no row although the site's exclusions do not say so."""

    OFF = "off"  # the site takes none, or is unknown
    NOT_SAMPLED = "not_sampled"  # the session is none of the site's share
    UNREADABLE = "unreadable"  # no packet, no JSON, or its key was destroyed
    BAD_TIME = "bad_time"  # the collector's clock was broken
    INTERNAL_ERROR = "internal_error"  # the masker failed on it


class Rejected(StrEnum):
    """The event could not be understood or processed."""

    BAD_PACKET = "bad_packet"  # the Kafka record is not a packet
    KEY_DESTROYED = "key_destroyed"  # the packet came after the key that it is sealed to had died
    UNKNOWN_SITE = "unknown_site"  # the site is not in the policy that the packet names
    BAD_PARAMETER = "bad_parameter"  # a parameter that Matomo answers with 400, inside an accepted event
    INTERNAL_ERROR = "internal_error"  # a stage failed on this event alone


class Repeated(StrEnum):
    """The event was stored before, and what told so (the table is in `streams.repeats`)."""

    KEY = "key"  # the request's Idempotency-Key
    RANDOM = "random"  # the client's random number, with the time or the page view's id
    BODY = "body"  # the body of a bulk, byte for byte


class Invalid(StrEnum):
    """The collector refused the request or the item of a bulk; it was never acknowledged."""

    UNKNOWN_SITE = "unknown_site"
    MISSING_SITE = "missing_site"
    BAD_PARAMETER = "bad_parameter"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    RECORDINGS_OFF = "recordings_off"
