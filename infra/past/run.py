"""One run of `veilstream anonymize-past`: what stands of a site from a period, brought under its rules of today."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date

from infra.past.events import Events, Month
from infra.past.recordings import Done, Recordings
from infra.past.scope import Scope, Tell
from infra.service.clickhouse import Client
from infra.service.settings import Settings


@dataclass(slots=True)
class Report:
    """What a run did. `rows`, `changed`, `removed`, `late` and `columns` (changed rows by column) are of `events`.

    `differing`: rows by column that the re-scan found still to be against the rules. `unwanted`: rows without the
    consent that the rules of today ask for, which came while the run was under way.
    """

    site: int
    first: str
    last: str
    policy_version: str
    dry_run: bool
    months: list[Month] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    changed: int = 0
    removed: int = 0
    late: int = 0
    checked: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    unwanted: int = 0
    recordings: Done = field(default_factory=Done)
    heatmap: Done = field(default_factory=Done)

    @property
    def right(self) -> bool:
        """Everything in the period is under the rules of today."""
        left = self.late or self.differing or self.unwanted or self.recordings.left or self.heatmap.left
        return self.dry_run or not left

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"right": self.right}


class Past:
    """One run over what is stored of a site."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        site: int,
        first: date,
        last: date,
        *,
        unset: Sequence[str] = (),
        tell: Tell = lambda _text: None,
    ) -> None:
        """`first` and `last`: dates at the site, both within the period. `unset`: columns that are emptied besides.

        Raises PastError and SitesError, and errors of ClickHouse, Kafka and the vault.
        """
        self.scope = Scope(client, settings, site, first, last, tell)
        number = secrets.randbits(64)
        self.events = Events(self.scope, number, unset)
        self.recordings = Recordings(self.scope, number)

    def run(self, *, dry_run: bool = False) -> Report:
        """Bring the period under the rules of today; with `dry_run` only tell what would be changed."""
        scope, months = self.scope, self.events.run(dry_run=dry_run)
        version = scope.policies.version.hex()
        report = Report(scope.site, scope.first.isoformat(), scope.last.isoformat(), version, dry_run, months)
        report.recordings = self.recordings.recordings(dry_run=dry_run)
        report.heatmap = self.recordings.heatmap(dry_run=dry_run)
        report.rows = sum(month.rows for month in months)
        report.changed = sum(month.changed for month in months)
        report.removed = sum(month.removed for month in months)
        report.columns = dict(sorted(self.events.columns.items()))
        if not dry_run:
            found = self.events.check()
            report.late, report.unwanted, report.checked = sum(found.late.values()), found.unwanted, found.checked
            report.differing = dict(sorted(found.differing.items()))
            for month in months:
                month.late = found.late.get(month.month, 0)
        return report
