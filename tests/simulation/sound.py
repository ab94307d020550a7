"""What a history is judged by in the end: the server, and the machines whose rights were never in doubt."""

from __future__ import annotations

from protocol.replica.at_work.replica import Replica
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.office import Office
from tests.simulation.world import World


def sound(world: World) -> list[tuple[Machine, SimAgent]]:
    """The machines that are ours, and may be expected to be in order.

    Of a machine that is there for some days only nothing is expected where a clock that may end its stay is wrong.
    """
    return [
        (machine, machine.agent)
        for machine in world.machines
        if machine.agent and not machine.revoked and not world.may_have_ended(machine)
    ]


def server_of(office: Office) -> Replica:
    """The server's replica. Raises `BrokenError`."""
    if office.server is None:
        raise BrokenError("the server is off")
    return office.server.replica


def destroying(world: World) -> list[tuple[str, Replica, set[bytes]]]:
    """The server and each machine that is ours, by name, with what must have been destroyed there by now.

    Each destroys by its own clock: one that was set back waits until it says so again.
    """
    machines = [
        (machine.name, agent.replica, world.due if machine.keeps_time else set()) for machine, agent in sound(world)
    ]
    return [("server", server_of(world.office), world.due), *machines]
