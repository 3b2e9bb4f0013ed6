"""What a person starts: the sweep and the command line."""

from tasks.heaps import share_heaps

share_heaps()  # before Prefect and Ray start their threads
