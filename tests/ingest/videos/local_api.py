"""The video API as it is, but for the rule of where it may connect to: this machine's loopback, for receivers of tests.
A process of its own, so that it can be killed.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from infra.service.outbound import Outbound
from ingest.videos import __main__ as api
from ingest.videos import webhooks

if __name__ == "__main__":
    changed: Any = api
    changed.Outbound = partial(Outbound, may=lambda address: str(address) == "127.0.0.1")
    changed.Webhooks = partial(webhooks.Webhooks, back_off=(0.5,))
    sys.exit(api.main())
