"""Arms: what is trained at a level. An arm turns the ticket of each seed into what this arm trains instead.

Adding an arm is one function `(ticket, draw) -> Ticket`, registered by name. Every random number that it needs comes
from a stream of the seeds in `draw`.
"""

from lth.arms import controls as _controls
from lth.arms.registry import ARMS, Draw, RegisteredArm, Ticket, arm_names, checked, register_arm

__all__ = ["ARMS", "Draw", "RegisteredArm", "Ticket", "arm_names", "checked", "register_arm"]
del _controls
