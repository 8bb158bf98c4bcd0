"""How much a receiver has in hand, and how much it may [pure]: its memory under a flood is bounded by this."""

from __future__ import annotations


class Room:
    """Bodies that are being read or stored, at most *most_bodies* with *most_bytes* together.

    Bytes count as they come and not as they are announced: else who announces much and sends nothing would shut out
    everybody.
    """

    def __init__(self, *, most_bodies: int, most_bytes: int) -> None:
        self._most_bodies = most_bodies
        self._most_bytes = most_bytes
        self.bodies = 0
        self.bytes = 0

    def enter(self) -> bool:
        """Make place for one more body; False where there is none."""
        if self.bodies >= self._most_bodies:
            return False
        self.bodies += 1
        return True

    def take(self, more_bytes: int) -> bool:
        """Make place for so many bytes more; False where there is none, and then nothing is taken."""
        if self.bytes + more_bytes > self._most_bytes:
            return False
        self.bytes += more_bytes
        return True

    def leave(self, taken_bytes: int) -> None:
        """Give back the place of one body, and of the bytes that were taken for it."""
        self.bodies -= 1
        self.bytes -= taken_bytes
