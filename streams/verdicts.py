"""Why an event has no row, decided from the event alone: the same numbers for a value and for a column."""

from __future__ import annotations

from typing import NamedTuple

from schemas.packets import Flag
from schemas.privacy import Privacy
from schemas.reasons import Excluded, Rejected

EARLIEST_MS = 946_684_800_000  # 2000-01-01; a collector's clock before that is broken
LATEST_MS = 4_102_444_800_000  # 2100-01-01


class Verdict(NamedTuple):
    """A reason of the closed lists, and the name of the field that is to blame."""

    reason: Excluded | Rejected
    field: str = ""

    @property
    def excluded(self) -> bool:
        """Whether the rules say so (counted only), rather than the event being wrong (a row in `rejects`)."""
        return isinstance(self.reason, Excluded)


# In the order in which they are judged: the first that applies holds. Number 0 of a column means "kept".
UNKNOWN_SITE = Verdict(Rejected.UNKNOWN_SITE, "idsite")
BAD_TIME = Verdict(Rejected.BAD_PARAMETER, "received_at")
OPTED_OUT = Verdict(Excluded.OPTED_OUT)
DO_NOT_TRACK = Verdict(Excluded.DO_NOT_TRACK)
GLOBAL_PRIVACY_CONTROL = Verdict(Excluded.GLOBAL_PRIVACY_CONTROL)
PREFETCH = Verdict(Excluded.PREFETCH)
NOT_RECORDED = Verdict(Excluded.NOT_RECORDED)
NO_CONSENT = Verdict(Excluded.NO_CONSENT)
BAD_CID = Verdict(Rejected.BAD_PARAMETER, "cid")
BAD_TIMINGS = {
    name: Verdict(Rejected.BAD_PARAMETER, name) for name in ("pf_net", "pf_srv", "pf_tfr", "pf_dm1", "pf_dm2", "pf_onl")
}
PING_WITHOUT_VISIT = Verdict(Excluded.PING_WITHOUT_VISIT)
INTERNAL_ERROR = Verdict(Rejected.INTERNAL_ERROR)

VERDICTS: tuple[Verdict | None, ...] = (
    None,
    UNKNOWN_SITE,
    BAD_TIME,
    OPTED_OUT,
    DO_NOT_TRACK,
    GLOBAL_PRIVACY_CONTROL,
    PREFETCH,
    NOT_RECORDED,
    NO_CONSENT,
    BAD_CID,
    *BAD_TIMINGS.values(),
    PING_WITHOUT_VISIT,
    INTERNAL_ERROR,
)
NUMBER = {verdict: number for number, verdict in enumerate(VERDICTS)}


def before_parsing(rules: Privacy | None, time_ok: bool, flags: int) -> Verdict | None:
    """What is judged without the parameters; `rules` are None where the site is unknown."""
    if rules is None:
        return UNKNOWN_SITE
    if not time_ok:
        return BAD_TIME
    if flags & Flag.OPT_OUT:
        return OPTED_OUT
    if flags & Flag.DNT and rules.do_not_track:
        return DO_NOT_TRACK
    if flags & Flag.GPC and rules.global_privacy_control:
        return GLOBAL_PRIVACY_CONTROL
    return PREFETCH if flags & Flag.PREFETCH else None
