"""The memory arenas of glibc in a process: few, so that a sweep of days needs no more memory than one of minutes."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

ARENAS = 2
_M_ARENA_MAX = -8  # glibc's malloc.h


def limit_arenas() -> None:
    """Make all threads of this process, and of those that it starts, share a few arenas; call it before there are many.

    glibc gives a thread an arena of its own, up to eight a core, and memory freed in one is of no use to the others: a
    process with a thread for every unit in flight would grow without an end. Once there are eight, it takes no other
    number. MALLOC_ARENA_MAX in the environment has the last word; elsewhere than with glibc nothing happens.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.environ["MALLOC_ARENA_MAX"] = str(ARENAS)
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
