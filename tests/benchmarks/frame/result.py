"""A benchmark's figures: medians with their spread, ratios round by round, and the object that `--json` prints."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from tests.benchmarks.frame.machine import load
from tests.benchmarks.frame.rounds import Series

Better = Literal["more", "less"]


def digits(value: float) -> float:
    """The number with the four digits that mean something."""
    return float(f"{value:.4g}") if abs(value) < 10_000 else float(round(value))


@dataclass(frozen=True, slots=True)
class Setting:
    """What was measured under one setting; without a reference there are no ratios."""

    name: str
    ours: Series
    reference: Series | None
    better: Better = "more"
    details: Mapping[str, Any] = field(default_factory=dict)

    def ratios(self) -> list[float]:
        """Per round, how much better ours is than the reference: 1 is equal, more is better, whatever the unit."""
        if self.reference is None:
            return []
        pairs = zip(self.ours.values, self.reference.values, strict=True)
        return [(a / b if self.better == "more" else b / a) if a and b else 0.0 for a, b in pairs]

    def as_dict(self) -> dict[str, Any]:
        """Its part of the JSON object."""
        out: dict[str, Any] = {"setting": self.name, **_figures("ours", self.ours.values)}
        if self.reference is None:
            out |= {"reference": None, "ratio": None}
        else:
            out |= _figures("reference", self.reference.values) | _figures("ratio", self.ratios())
        cpu = self.ours.cpu_us_per_item()
        out["cpu_us_per_item"] = None if cpu is None else digits(cpu)
        out["peak_rss_mb"] = _megabytes(self.ours)
        out |= {name: digits(value) for name, value in self.ours.details().items()}
        if self.reference is not None:
            reference_cpu = self.reference.cpu_us_per_item()
            out["reference_details"] = {
                "cpu_us_per_item": None if reference_cpu is None else digits(reference_cpu),
                "peak_rss_mb": _megabytes(self.reference),
                **{name: digits(value) for name, value in self.reference.details().items()},
            }
        return out | dict(self.details)


def _megabytes(series: Series) -> float | None:
    return digits(series.peak() / 1e6) or None


def _figures(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {name: digits(median(values)), f"{name}_spread": [digits(min(values)), digits(max(values))]}


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run. item: what is counted, in the singular."""

    name: str
    unit: str
    item: str
    reference_name: str | None
    settings: Sequence[Setting]
    details: Mapping[str, Any] = field(default_factory=dict)

    def machine(self) -> dict[str, Any]:
        """How disturbed the run was."""
        measured = [s for setting in self.settings for s in (setting.ours, setting.reference) if s is not None]
        distinct = {id(series): series for series in measured}  # settings may share their reference
        noises = [noise for series in distinct.values() for noise in series.noise]
        foreign = [noise.foreign for noise in noises] or [0.0]
        return {
            "cores": os.cpu_count(),
            "load_average": digits(load()),
            "foreign_cores": digits(median(foreign)),
            "foreign_cores_most": digits(max(foreign)),
            "steal_cores_most": digits(max((noise.steal for noise in noises), default=0.0)),
            "disturbed_samples": sum(not noise.quiet for noise in noises),
            "samples": len(noises),
        }

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` prints: the worst of the settings, and all of them where there are several."""
        parts = [setting.as_dict() for setting in self.settings]
        better = self.settings[0].better
        worst = min if better == "more" else max
        ours = worst(parts, key=lambda part: part["ours"])
        ratios = [part for part in parts if part["ratio"] is not None]
        ratio = min(ratios, key=lambda part: part["ratio"]) if ratios else None
        out: dict[str, Any] = {
            "name": self.name,
            "unit": self.unit,
            "better": better,
            "ours": ours["ours"],
            "ours_spread": ours["ours_spread"],
            "reference": ratio["reference"] if ratio else None,
            "reference_spread": ratio["reference_spread"] if ratio else None,
            "reference_name": self.reference_name,
            "ratio": ratio["ratio"] if ratio else None,
            "ratio_spread": ratio["ratio_spread"] if ratio else None,
            "cpu_us_per_item": max((p["cpu_us_per_item"] for p in parts if p["cpu_us_per_item"]), default=None),
            "peak_rss_mb": max((p["peak_rss_mb"] for p in parts if p["peak_rss_mb"]), default=None),
            "repeats": len(self.settings[0].ours.samples),
        }
        if len(parts) > 1:
            out["settings"] = parts
        else:
            shown = {"setting", "ours", "reference", "ratio"}
            out |= {key: value for key, value in parts[0].items() if key not in out and key not in shown}
        return out | dict(self.details) | {"item": self.item, "machine": self.machine()}
