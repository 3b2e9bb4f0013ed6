"""Entry point: quiet settings for what we start, one clear line for a mistake, no stack trace."""

from __future__ import annotations

import os
import sys

# Before Prefect or Ray are imported: they read these once.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # on a busy machine Prefect's own 20 pass too soon
}


def main() -> None:
    """Run the command line; exits 0 if all is well, 1 after an error, 2 after a wrong call, 130 after Ctrl-C."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import flows.cli.storage  # noqa: F401  (its commands)
    from flows.cli.app import app
    from lth.console import Console
    from lth.errors import LthError

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(prog_name="lth")  # wrong calls and Ctrl-C are answered by typer, which exits by itself
    except LthError as error:
        errors.print(f"[bold red]error:[/] {_escaped(str(error))}")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("LTH_TRACEBACK"):
            raise
        errors.print(
            f"[bold red]unexpected error:[/] {type(error).__name__}: {_escaped(str(error))} "
            "(LTH_TRACEBACK=1 shows where; please report it)"
        )
        sys.exit(1)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
