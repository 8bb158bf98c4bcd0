"""How much a receiver has in hand, and how much it may [pure]: its memory under a flood is bounded by this."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """Bodies that are being read or stored, at most *most_bodies* with *most_bytes* together.

    Bytes count as they come and not as they are announced: else who announces much and sends nothing would shut out
    everybody. For the same reason a body that is not whole makes room for others: first the one that came first, as
    what the provider sends is whole within milliseconds.
    """

    def __init__(self, *, most_bodies: int, most_bytes: int) -> None:
        self._most_bodies = most_bodies
        self._most_bytes = most_bytes
        self._unfinished: dict[Body, None] = {}
        self.bodies = 0
        self.bytes = 0

    def enter(self, give_up: Callable[[], None]) -> Body | None:
        """Make place for one more body; None where there is none. *give_up* is called if it has to make room."""
        if self.bodies >= self._most_bodies and not self._make_room():
            return None
        self.bodies += 1
        body = Body(give_up)
        self._unfinished[body] = None
        return body

    def take(self, body: Body, more_bytes: int) -> bool:
        """Make place for so many bytes more of *body*; False where there is none, and then nothing is taken."""
        while body in self._unfinished and self.bytes + more_bytes > self._most_bytes:
            # Whoever came before it makes room; it itself is next.
            if next(iter(self._unfinished)) is body or not self._make_room():
                return False
        if body not in self._unfinished:
            return False
        self.bytes += more_bytes
        body.bytes += more_bytes
        return True

    def finish(self, body: Body) -> bool:
        """Take note that *body* is whole: it makes room for nobody any more; False where it has done so before."""
        if body not in self._unfinished:
            return False
        del self._unfinished[body]
        return True

    def leave(self, body: Body) -> None:
        """Give back the place of a body and of its bytes, unless it has made room already."""
        self._unfinished.pop(body, None)
        if body.has_place:
            body.has_place = False
            self.bodies -= 1
            self.bytes -= body.bytes

    def _make_room(self) -> bool:
        """Have the first body that is not whole leave; False where there is none."""
        first = next(iter(self._unfinished), None)
        if first is None:
            return False
        self.leave(first)
        first.give_up()
        return True


class Body:
    """The place of one body in a room, with so many *bytes* of it."""

    __slots__ = ("bytes", "give_up", "has_place")

    def __init__(self, give_up: Callable[[], None]) -> None:
        self.bytes = 0
        self.give_up = give_up
        # Until it leaves, or makes room for another.
        self.has_place = True
