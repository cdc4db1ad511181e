"""kill -9 of the process in which a media worker decodes: one attempt at one job is lost, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from random import Random

import psutil

from tests.fault.field import Field

DECODER = "gpu_workers.decoder"


class KillDecoder:
    """The decoder of a media worker; its keeper starts another one when there is something to decode."""

    name = "decoder"
    kinds = ("media",)
    outage = False
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        name = field.pick(kind, random)
        field.back(name)
        killed = 0
        with suppress(psutil.Error):
            for child in psutil.Process(field.stack.pids()[name]).children():
                if DECODER in child.cmdline():
                    child.kill()
                    killed += 1
        return {"decoders_killed": killed}


def orphans() -> int:
    """Decoders whose keeper is gone."""
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found += process.ppid() == 1 and DECODER in process.cmdline()
    return found
