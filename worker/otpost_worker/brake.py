"""Whether a sender is halted: after a refusal that concerns all of its jobs, none is tried for a while."""

from __future__ import annotations


class Brake:
    """One sender's; times are Unix seconds."""

    def __init__(self) -> None:
        self.until = 0.0
        self._halted_at: float | None = None

    def halt(self, until: float, *, now: float) -> bool:
        """Send nothing before *until*; tells whether that is news, or one more refusal of the same halt."""
        self.until = max(self.until, until)
        if self._halted_at is not None:
            return False
        self._halted_at = now
        return True

    def release(self, begun_at: float) -> bool:
        """Take note that a message was accepted whose request began at *begun_at*; tells whether that ends a halt.

        What was under way when the sender was halted says nothing about it.
        """
        if self._halted_at is None or begun_at < self._halted_at:
            return False
        self._halted_at = None
        return True
