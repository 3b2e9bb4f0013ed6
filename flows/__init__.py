"""What a person starts: the sweep and the command line."""

from flows.import_path import check

check()  # before a `tasks` of the user's is imported for ours

from tasks.malloc_arenas import limit_arenas  # noqa: E402

limit_arenas()  # before Prefect and Ray start their threads
