"""What a person starts: the sweep and the command line."""

from tasks.malloc_arenas import limit_arenas

limit_arenas()  # before Prefect and Ray start their threads
