"""A sweep without an orchestrator: setup, planning, the stages of a unit, and running them all in one process."""
