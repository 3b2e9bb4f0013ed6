"""A flow whose worker was killed goes on: what it has done and does is in the store and on the server all the same."""

from __future__ import annotations

import logging
from functools import partial


def silence_broken_console() -> None:
    """Keep a log line that nobody reads any more from ending the process.

    A worker that starts a flow reads its output through a pipe. Once it is dead, rich answers the next line on the
    console with `SystemExit`; here it falls silent instead. The server's log goes on.
    """
    for handler in logging.getLogger().handlers:
        console = getattr(handler, "console", None)
        if console is not None:
            console.on_broken_pipe = partial(setattr, console, "quiet", True)
