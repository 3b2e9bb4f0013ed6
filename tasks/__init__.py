"""One Prefect task per stage of a unit, and the one door to Ray."""
