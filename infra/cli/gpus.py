"""`veilstream gpus`: the GPUs, how they are, and whether they pass the self-test."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Console

from gpu_workers import admission
from gpu_workers.nvml import Nvml, Snapshot, reasons
from infra.service.logs import configure
from schemas.videos import Engine, Gpu, NvmlState, plain

EVERY = 2.0  # seconds, of the live table
MIB = 1 << 20
HEAD = ("GPU", "NAME", "SM %", "DEC %", "ENC %", "JPG %", "MEMORY MiB", "°C", "W", "SM MHz", "ECC", "HELD BACK BY")
TESTED = (Engine.CUDA, Engine.CUDA_CLI)


def command(
    check: Annotated[bool, typer.Option("--check", help="Do the self-test on every GPU.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show every GPU as NVML sees it; "-" is what a device does not tell.

    The exit status is 1 when the GPUs cannot be asked though there are some, or one fails the self-test.
    """
    configure("gpus", "warning")
    nvml = Nvml()
    seen = nvml.snapshot()
    verdicts = [admission.admit(engine, gpu.index) for gpu in seen.gpus for engine in TESTED] if check else []
    if as_json:
        tests = [plain(verdict) | {"admitted": verdict.admitted, "why": verdict.why} for verdict in verdicts]
        gpus = [plain(gpu) | {"reasons": reasons(gpu.throttled)} for gpu in seen.gpus]
        typer.echo(json.dumps({"nvml": seen.state, "driver": seen.driver, "gpus": gpus, "tests": tests}))
    else:
        _show(seen)
        for verdict in verdicts:
            typer.echo(f"self-test {verdict.engine} on {verdict.device}: {verdict.why or 'passed'}")
    while watch and not as_json:
        time.sleep(EVERY)
        Console().clear()
        _show(nvml.snapshot())
    good = seen.state not in (NvmlState.ERROR, NvmlState.LOST) and all(verdict.admitted for verdict in verdicts)
    raise typer.Exit(0 if good else 1)


def _show(seen: Snapshot) -> None:
    if not seen.gpus:
        typer.echo(f"no GPU ({seen.state})")
        return
    rows: list[tuple[str, ...]] = [HEAD]
    rows += [_row(gpu) for gpu in seen.gpus]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    typer.echo(f"driver {seen.driver}")
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(gpu: Gpu) -> tuple[str, ...]:
    def text(value: float | None, unit: float = 1) -> str:
        return "-" if value is None else f"{value / unit:.0f}"

    return (
        f"{gpu.index}{' MIG' if gpu.mig else ''}",
        gpu.name,
        text(gpu.utilisation),
        text(gpu.decoder),
        text(gpu.encoder),
        text(gpu.jpeg),
        f"{text(gpu.memory_used, MIB)}/{text(gpu.memory_total, MIB)}",
        text(gpu.temperature),
        f"{text(gpu.power)}/{text(gpu.power_limit)}",
        text(gpu.sm_clock),
        f"{text(gpu.ecc_uncorrected)}{' row remap pending' if gpu.remap_pending else ''}",
        ", ".join(reasons(gpu.throttled)) or "-",
    )
