"""What the owner of a partition does now and then beside storing: the log is let go of, and keys die.

Raw data lives short when all is well. Records below the floor (all that `packets` has, in order) are deleted from the
topic once they are older than the replay margin and every other reader that the settings name has committed beyond
them. The floor is durable and only rises, so an owner that was replaced meanwhile deletes nothing that is needed; that
the claim is still the highest is asked all the same, right before.

The owner of partition 0 destroys keys, by the rules of `infra.service.destruction`. Before that it lets go of records
of other topics that are sealed to the same keys (`recordings.raw`): what their reader has committed, which is stored,
after the same margin. A key dies when the logs of all have let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.service.clickhouse import Client
from infra.service.destruction import destroy, due
from infra.service.logs import logger
from streams import metrics
from streams.ownership import Claim, Ownership
from streams.topic_generations import Topic

log = logger(__name__)

SKEW = timedelta(minutes=5)  # between the clocks of ClickHouse and the broker


@dataclass(frozen=True, slots=True)
class Follower:
    """Another sealed topic, with as many partitions, and the consumer group whose commits tell what is stored of it."""

    topic: Topic
    group: str


class Upkeep:
    """For the pipeline's thread. `topic` is for this object's own use. Methods raise errors of Kafka and ClickHouse."""

    def __init__(
        self,
        client: Client,
        topic: Topic,
        generation: int,
        *,
        partitions: int,
        margin: timedelta,
        readers: Sequence[str] = (),
        followers: Sequence[Follower] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """partitions: of the topic. margin: for which what is stored stays, for a replay. readers: consumer groups."""
        self._client = client
        self._topic = topic
        self._generation = generation
        self._partitions = range(partitions)
        self._margin = margin
        self._readers = tuple(readers)
        self._followers = tuple(followers)
        self._now = now

    def trim(self, ownership: Ownership, owned: Mapping[int, tuple[Claim, int]]) -> dict[int, int]:
        """Deletes what is not needed any more of the partitions owned, each with its claim and its floor.

        Returns the offsets at which the log of those that were changed begins now.
        """
        starts = self._topic.starts(owned)
        old = self._older(owned)
        limits = self._topic.committed(self._readers, owned) if self._readers else {}
        wanted: dict[int, int] = {}
        for number, (_, floor) in owned.items():
            below = min(floor, old.get(number, 0))
            for group in self._readers:
                read = limits.get((group, number), 0)
                if read < below:
                    log.info("reader_behind", partition=number, group=group, offset=read, wanted=below)
                    below = read
            if below > starts.get(number, 0):
                wanted[number] = below
        held = ownership.held(claim for number, (claim, _) in owned.items() if number in wanted)
        wanted = {number: below for number, below in wanted.items() if number in held}
        if wanted:
            self._topic.delete_below(wanted)
            metrics.trimmed.inc(sum(below - starts[number] for number, below in wanted.items()))
            log.info("log_trimmed", starts=wanted)
        return wanted

    def destroy(self, maker: str) -> int:
        """Destroys the keys that are due; `maker` is the SQL of still being the one to do so. Returns how many."""
        for follower in self._followers:
            self._let_go(follower)
        topics = [self._topic, *(follower.topic for follower in self._followers)]
        starts = {topic.name: topic.starts(self._partitions) for topic in topics}
        known: dict[datetime, bool] = {}

        def passed(moment: datetime) -> bool:
            if moment not in known:
                until = moment + SKEW
                known[moment] = self._now() > until and all(
                    starts[topic.name][number] >= offset
                    for topic in topics
                    for number, offset in topic.at(until, self._partitions).items()
                )
            return known[moment]

        return destroy(self._client, due(self._client, self._now(), passed), maker)

    def _let_go(self, follower: Follower) -> None:
        topic, numbers = follower.topic, list(self._partitions)
        starts, old = topic.starts(numbers), topic.at(self._now() - self._margin, numbers)
        stored = topic.committed([follower.group], numbers)
        below = {number: min(old[number], stored.get((follower.group, number), 0)) for number in numbers}
        wanted = {number: offset for number, offset in below.items() if offset > starts[number]}
        if wanted:
            topic.delete_below(wanted)
            log.info("log_trimmed", topic=topic.name, starts=wanted)

    def _older(self, partitions: Iterable[int]) -> dict[int, int]:
        """By partition, the offset behind the last packet that is older than the margin."""
        numbers = ", ".join(str(number) for number in partitions)
        if not numbers:
            return {}
        until = (self._now() - self._margin).strftime("%Y-%m-%d %H:%M:%S")
        rows = self._client.query(
            f"SELECT `partition`, max(`offset`) + 1 FROM packets WHERE generation = {self._generation} "
            f"AND `partition` IN ({numbers}) AND appended_at < toDateTime64('{until}', 3, 'UTC') GROUP BY `partition`"
        ).result_rows
        return {int(number): int(offset) for number, offset in rows}
