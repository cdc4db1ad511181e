"""Why an event has no row, decided from the event alone: the same numbers for a value and for a column."""

from __future__ import annotations

from typing import NamedTuple

from schemas.packets import Flag
from schemas.privacy import Privacy
from schemas.reasons import Excluded, Rejected, Repeated

EARLIEST_MS = 946_684_800_000  # 2000-01-01; a collector's clock before that is broken
LATEST_MS = 4_102_444_800_000  # 2100-01-01


class Verdict(NamedTuple):
    """A reason of the closed lists, and the name of the field that is to blame."""

    reason: Excluded | Rejected | Repeated
    field: str = ""

    @property
    def rejected(self) -> bool:
        """Whether the event is wrong (a row in `rejects`), rather than left out by the rules (counted only)."""
        return isinstance(self.reason, Rejected)


# In the order in which they are judged: the first that applies holds. Number 0 of a column means "kept".
UNKNOWN_SITE = Verdict(Rejected.UNKNOWN_SITE, "idsite")
BAD_TIME = Verdict(Rejected.BAD_PARAMETER, "received_at")
DO_NOT_TRACK = Verdict(Excluded.DO_NOT_TRACK)
GLOBAL_PRIVACY_CONTROL = Verdict(Excluded.GLOBAL_PRIVACY_CONTROL)
BOT = Verdict(Excluded.BOT)
BOT_ADDRESS = Verdict(Excluded.BOT_ADDRESS)
NOT_RECORDED = Verdict(Excluded.NOT_RECORDED)
EXCLUDED_REQUEST = Verdict(Excluded.EXCLUDED_REQUEST)
OPTED_OUT = Verdict(Excluded.OPTED_OUT)
EXCLUDED_ADDRESS = Verdict(Excluded.EXCLUDED_ADDRESS)
EXCLUDED_AGENT = Verdict(Excluded.EXCLUDED_AGENT)
REFERRER_SPAM = Verdict(Excluded.REFERRER_SPAM)
UNKNOWN_URL = Verdict(Excluded.UNKNOWN_URL)
PREFETCH = Verdict(Excluded.PREFETCH)
RECORDING = Verdict(Excluded.RECORDING)
NO_CONSENT = Verdict(Excluded.NO_CONSENT)
BAD_CDT = Verdict(Rejected.BAD_PARAMETER, "cdt")
BAD_CID = Verdict(Rejected.BAD_PARAMETER, "cid")
BAD_TIMINGS = {
    name: Verdict(Rejected.BAD_PARAMETER, name) for name in ("pf_net", "pf_srv", "pf_tfr", "pf_dm1", "pf_dm2", "pf_onl")
}
HOW = {Repeated.KEY: 1, Repeated.RANDOM: 2, Repeated.BODY: 3}  # the numbers are part of every identity
REPEATS = {reason: Verdict(reason) for reason in Repeated}
PING_WITHOUT_VISIT = Verdict(Excluded.PING_WITHOUT_VISIT)
INTERNAL_ERROR = Verdict(Rejected.INTERNAL_ERROR)

VERDICTS: tuple[Verdict | None, ...] = (
    None,
    UNKNOWN_SITE,
    BAD_TIME,
    DO_NOT_TRACK,
    GLOBAL_PRIVACY_CONTROL,
    BOT,
    BOT_ADDRESS,
    NOT_RECORDED,
    EXCLUDED_REQUEST,
    OPTED_OUT,
    EXCLUDED_ADDRESS,
    EXCLUDED_AGENT,
    REFERRER_SPAM,
    UNKNOWN_URL,
    PREFETCH,
    RECORDING,
    NO_CONSENT,
    BAD_CDT,
    BAD_CID,
    *BAD_TIMINGS.values(),
    *REPEATS.values(),
    PING_WITHOUT_VISIT,
    INTERNAL_ERROR,
)
NUMBER = {verdict: number for number, verdict in enumerate(VERDICTS)}


def before_parsing(rules: Privacy | None, time_ok: bool, flags: int) -> Verdict | None:
    """What is judged without the parameters, a refusal first of all; `rules` are None where the site is unknown."""
    if rules is None:
        return UNKNOWN_SITE
    if not time_ok:
        return BAD_TIME
    if flags & Flag.DNT and rules.do_not_track:
        return DO_NOT_TRACK
    return GLOBAL_PRIVACY_CONTROL if flags & Flag.GPC and rules.global_privacy_control else None
