"""`ray start`, bound to 127.0.0.1: `python loopback_ray.py start --head …`.

Ray takes the address of a network card even where it is told 127.0.0.1, and then listens on every interface. On other
systems than Linux it stays on loopback; the same switch does so here, for the head, its drivers and its workers. Nodes
that join are refused with that switch, though, so they need to be told here.
"""

from __future__ import annotations

import os
import sys

SWITCH = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What every process that joins this cluster needs in its environment."""


def main() -> None:
    """Ray's own command line."""
    os.environ.update(SWITCH)
    from ray._private import ray_constants, services
    from ray.scripts.scripts import main as ray

    services.get_node_ip_address = lambda address=None: "127.0.0.1"
    ray_constants.ENABLE_RAY_CLUSTER = True  # in this process only: nodes may join
    ray()


if __name__ == "__main__":
    sys.argv[0] = "ray"
    main()
