"""What a person starts: the sweep and the command line."""
