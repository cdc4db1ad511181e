"""The media worker as it is, but for the rule of where it may connect to: this machine's loopback, for servers of
tests. A process of its own, so that it can be killed.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from gpu_workers import worker
from infra.service.outbound import Outbound

if __name__ == "__main__":
    changed: Any = worker
    changed.Outbound = partial(Outbound, may=lambda address: str(address) == "127.0.0.1")
    sys.exit(worker.main())
