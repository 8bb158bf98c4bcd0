"""A halt is news once, however many jobs meet it, and ends with a message that was accepted."""

from __future__ import annotations

from otpost_worker.brake import Brake


def test_a_halt_is_news_once() -> None:
    brake = Brake()
    assert brake.halt(130.0, now=100.0)
    assert not brake.halt(131.0, now=101.0)
    assert not brake.halt(120.0, now=102.0)
    assert brake.until == 131.0


def test_a_message_that_is_accepted_ends_it_unless_it_was_under_way_before() -> None:
    brake = Brake()
    assert not brake.release(90.0)
    brake.halt(130.0, now=100.0)
    assert not brake.release(99.0)
    assert brake.release(130.0)
    assert not brake.release(131.0)
    assert brake.halt(170.0, now=140.0)
