"""Nothing that the tests start may call home, nothing of the user's own set-up may leak in, no test is timed, and torch
computes on one thread."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

import lth  # noqa: F401  # before torch computes anything

os.environ.update(
    {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
)
for name in ("RAY_ADDRESS", "PREFECT_API_URL", "LTH_STORE"):
    os.environ.pop(name, None)
settings.register_profile("lth", deadline=None)  # a first example imports and compiles, and machines are shared
settings.load_profile("lth")
torch.set_num_threads(1)  # beside other work, threads of small networks only wait for each other
