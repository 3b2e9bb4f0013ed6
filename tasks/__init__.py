"""One Prefect task per stage of a unit, and the one door to Ray."""

import lth  # noqa: F401  # a worker of Ray begins here: before torch computes anything
