"""Leases: who answers in which conversation, so that a dead worker's conversations go to another, and only one speaks.

A lease is a name of its own for each time that a conversation is taken, and it holds only as long as the thread that took
it says so: whoever lost it (slept too long, was thought dead) finds another name in the row, and stores nothing.
"""

from __future__ import annotations

import os
import socket
import threading
from datetime import timedelta

from sqlalchemy import update
from sqlmodel import Session, col, select

from bot.tables import Conversation, Turn, TurnStatus, new_id, utcnow
from jobs.services import Services

LEASE_S = 15  # a dead worker's conversations are taken over after this, or at once when its host sees that it died
RENEW_S = 4


class Desk:
    """Where the reply threads of one process work: the services they share, the leases they hold, the word to stop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.stopping = threading.Event()
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def new_lease(self) -> str:
        """The name of a lease that is about to be taken; it is renewed from now on."""
        lease = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
        with self._lock:
            self._held.add(lease)
        return lease

    def drop(self, lease: str) -> None:
        """Nobody works under this lease any more: where it was not given back, it runs out."""
        with self._lock:
            self._held.discard(lease)

    def held(self) -> list[str]:
        """The leases under which threads work."""
        with self._lock:
            return sorted(self._held)


def renew(desk: Desk) -> None:
    """Say that the threads of this process live, for what they hold. Called every RENEW_S."""
    if not (held := desk.held()):
        return
    with desk.services.db.write() as session:
        session.connection().execute(
            update(Conversation)
            .where(col(Conversation.lease_owner).in_(held))
            .values(lease_until=utcnow() + timedelta(seconds=LEASE_S))
        )


def release(desk: Desk) -> None:
    """Give back what this worker still holds, as it stops; its turns are begun again by another, at no cost of attempts."""
    held = desk.held()
    with desk.services.db.write() as session:
        mine = select(col(Conversation.id)).where(col(Conversation.lease_owner).in_(held))
        session.connection().execute(
            update(Turn)
            .where(col(Turn.conversation_id).in_(mine), col(Turn.status) == TurnStatus.RUNNING)
            .values(status=TurnStatus.WAITING, attempts=Turn.attempts - 1)
        )
        _free(session, held)


def free_those_of_the_dead(desk: Desk) -> None:
    """Free what workers held that died on this host, so that nobody waits for their leases to run out."""
    with desk.services.db.write() as session:
        leases = session.connection().execute(
            select(col(Conversation.lease_owner)).where(col(Conversation.lease_owner).is_not(None))
        )
        held = set(desk.held())
        _free(session, [lease for (lease,) in leases if lease and lease not in held and _is_dead(lease)])


def _free(session: Session, leases: list[str]) -> None:
    if leases:
        session.connection().execute(
            update(Conversation).where(col(Conversation.lease_owner).in_(leases)).values(lease_owner=None, lease_until=None)
        )


def _is_dead(lease: str) -> bool:
    """Whether the process that took the lease is gone, as far as this host can tell."""
    host, pid, _ = lease.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid():
        return True  # my own number and not one that I hold, so its former bearer is gone
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
