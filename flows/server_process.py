"""A server that lives as long as the process that started it: `python server_process.py PIPE -m uvicorn ARGUMENTS...`.

It leads a session of its own, so that a terminal's Ctrl-C does not reach it, and would outlive a run that is killed.
PIPE is the reading end of a pipe whose other end that process alone holds and never writes to: it ends when the process
does, however that ends. No third process stands between the two. This file imports nothing of ours, to stay small.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

PATIENCE = 4.0
"""Seconds that the server has to end before it is killed."""


def main() -> None:
    """Run the module that is named, and end this process when whoever started it is gone."""
    pipe, option, module, *arguments = sys.argv[1:]
    assert option == "-m"
    threading.Thread(target=_end_with, args=(int(pipe),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
