"""Nothing that the tests start may call home, nothing of the user's own set-up may leak in, and no test is timed."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.update({
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"})
for name in ("RAY_ADDRESS", "PREFECT_API_URL", "LTH_STORE"):
    os.environ.pop(name, None)
settings.register_profile("lth", deadline=None)  # a first example imports and compiles, and machines are shared
settings.load_profile("lth")
