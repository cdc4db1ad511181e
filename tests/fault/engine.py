"""kill -9 of the engine in the middle of an insert: parts of it may stand, and the worker gets no answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random

from infra.demo import database
from infra.load.sql import SqlError
from tests.fault.field import Field

LOOKS = 3_000  # for an insert under way, before it is killed anyway
RUNNING = "SELECT count() FROM system.processes WHERE startsWith(query, 'INSERT INTO')"


class Engine:
    """ClickHouse's front with the embedded engine."""

    name = "engine"
    kinds = ("front",)
    outage = False
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        name = field.pick(kind, random)
        sql = database(field.stack)
        inserting = 0
        try:
            for _ in range(LOOKS):
                (inserting,) = sql.numbers(RUNNING)
                if inserting:
                    break
                time.sleep(0.001)
        except SqlError:
            pass  # it is on its way back from something else
        finally:
            pid = field.stack.kill(name)
            sql.close()
        field.back(name, after=pid)
        return {"amid_inserts": int(inserting > 0)}
