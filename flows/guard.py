"""Runs a command for as long as the process that asked for it lives: `python guard.py PID COMMAND...`.

A server of its own session would outlive a flow that is killed. This file imports nothing of ours, to stay small.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

PATIENCE = 4.0
"""Seconds that the command has to end before it is killed; whoever waits for us waits a little longer."""


def main() -> int:
    """Run, wait, and end the command when we are told to, or when our parent is gone."""
    parent = int(sys.argv[1])
    child = subprocess.Popen(sys.argv[2:])
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # only now: a child would inherit it
    ending = None
    while child.poll() is None:
        got = signal.sigtimedwait(signals, 1.0)
        if ending is None and ((got and got.si_signo != signal.SIGCHLD) or os.getppid() != parent):
            ending = time.monotonic()
            child.terminate()
        elif ending is not None and time.monotonic() - ending > PATIENCE:
            child.kill()
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
