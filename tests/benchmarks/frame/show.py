"""Figures for people: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

HEAD = ("setting", "what", "median", "lowest", "highest", "CPU us", "peak MB", "per second", "p50 ms", "p99 ms")
BESIDE = ("cpu_us_per_item", "peak_rss_mb", "per_second", "p50_ms", "p99_ms")


def number(value: object) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def rows(answer: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The lines of the table: ours, the reference and the ratio of every setting."""
    found: list[tuple[str, ...]] = []
    for part in answer.get("settings") or [answer]:
        name = part.get("setting", answer["name"])
        lines: list[tuple[str, Mapping[str, Any]]] = [("ours", part)]
        if part.get("reference") is not None:
            lines += [("reference", part.get("reference_details") or {}), ("ratio", {})]
        for what, beside in lines:
            low, high = part.get(f"{what}_spread") or (None, None)
            figures = (part[what], low, high, *(beside.get(key) for key in BESIDE))
            found.append((name, what, *map(number, figures)))
            name = ""
    return found


def remarks(answer: Mapping[str, Any]) -> list[str]:
    """What stands below the table."""
    machine = answer["machine"]
    found = [f"in {answer['unit']}, {answer['better']} is better, {answer['repeats']} rounds"]
    if answer["reference_name"]:
        found.append(f"reference: {answer['reference_name']}; ratio: how many times better ours is")
    others = f"others used {machine['foreign_cores']:.2f} of {machine['cores']} cores"
    found.append(f"{others} (at most {machine['foreign_cores_most']:.2f}), load average {machine['load_average']}")
    if machine["disturbed_samples"]:
        found.append(
            f"DISTURBED: {machine['disturbed_samples']} of {machine['samples']} samples; run it again in quiet"
        )
    return found


def show(answer: Mapping[str, Any], stream: TextIO) -> None:
    """Writes the figures."""
    console = Console(file=stream)
    if not console.is_terminal:
        lines = [HEAD, *rows(answer)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
        for line in lines:
            stream.write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n")
        for title, table in tables(answer):
            stream.write(f"\n{title}\n")
            width = max(len(name) for name, _ in table)
            for name, value in table:
                stream.write(f"{name.ljust(width)}  {value}\n")
        for remark in remarks(answer):
            stream.write(remark + "\n")
        return
    main = Table(title=f"bench {answer['name']}")
    for column in HEAD:
        main.add_column(column, justify="left" if column in HEAD[:2] else "right")
    for line in rows(answer):
        main.add_row(*line, style="bold" if line[1] == "ratio" else "")
    console.print(main)
    for title, content in tables(answer):
        further = Table(title=title, show_header=False)
        further.add_column()
        further.add_column(justify="right")
        for name, value in content:
            further.add_row(name, value)
        console.print(further)
    for remark in remarks(answer):
        console.print(remark, style="red" if remark.startswith("DISTURBED") else "dim")


def tables(answer: Mapping[str, Any]) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    """Further figures that are a table by themselves: every mapping of the answer but the machine's."""
    found: list[tuple[str, Sequence[tuple[str, str]]]] = []
    for name, value in answer.items():
        if isinstance(value, Mapping) and value and name not in ("machine", "reference_details"):
            found.append((name.replace("_", " "), [(key, number(figure)) for key, figure in value.items()]))
    return found
