"""`detect`: how well the detectors tell values of persons from what only looks alike, on a corpus made by seed.

Recall is the share of values planted that are masked whole and as what they are; precision is the share of what is
masked that was planted. Both by kind, against the goal; nothing here is a matter of speed, so one round says all.
"""

from __future__ import annotations

from streams.anonymize import detect
from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.machine import Noise
from tests.benchmarks.frame.result import Result, Setting, digits
from tests.benchmarks.frame.rounds import Sample, Series
from tests.streams.anonymize.detect import corpus

ROUNDS = 1
SEED = 1
GOAL_RECALL, GOAL_PRECISION = 0.99, 0.98
REFERENCE = f"the goal: recall {GOAL_RECALL}, precision {GOAL_PRECISION}"


def run(frame: Frame) -> Result:
    """Recall and precision of every kind."""
    texts = [sample for at in range(frame.rounds) for sample in corpus.samples(SEED + at, frame.pick(2_000, 100))]
    found = corpus.score(texts, _find)

    def series(value: float) -> Series:
        return Series((Sample(value),), (Noise(0.0, 0.0),))  # which nothing can disturb

    settings = []
    for kind in corpus.KINDS:
        frame.say(f"{kind}: {found.planted[kind]} planted, {found.right[kind]} found, {found.wrong[kind]} mistaken")
        recall, precision = found.recall(kind), found.precision(kind)
        settings.append(Setting(f"{kind}, recall", series(recall), series(GOAL_RECALL)))
        settings.append(Setting(f"{kind}, precision", series(precision), series(GOAL_PRECISION)))
    details = {
        "texts": len(texts),
        "recall": {kind: digits(found.recall(kind)) for kind in corpus.KINDS},
        "precision": {kind: digits(found.precision(kind)) for kind in corpus.KINDS},
        "goal_recall": GOAL_RECALL,
        "goal_precision": GOAL_PRECISION,
    }
    return Result("detect", "share of values", "text", REFERENCE, settings, details)


def _find(text: str) -> list[tuple[int, int, str]]:
    return [(first, last, str(kind)) for first, last, kind in detect.search(text, detect.ALL)]
