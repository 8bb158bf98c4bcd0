"""When a request may start: limits as arithmetic on times (contract, sections 4.4 and 6).

A limit is kept as one number, the time until which everything that was booked is paid for: a booking costs an
interval, a second of waiting pays a second, and what is owed may never be more than the burst. So a booking has a
start of its own, later ones start later, and nobody who waits is overtaken or has to ask in vain.

All times are Unix seconds by the ledger's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

# Meta's rule for one business number and one recipient: a message every 6 s, 45 of them borrowed in advance.
PAIR_INTERVAL_S: Final = 6.0
PAIR_BURST: Final = 45
# Requests that start 6 s apart do not arrive 6 s apart: whoever waits anyway waits this much longer, so that the
# first one's slow way does not make the provider refuse a later one.
PAIR_MARGIN_S: Final = 0.5
# The provider lends a number one second's worth; we take a tenth of it and leave the rest for what is late on its way.
BURST_S: Final = 0.1
# A wait of at most this long happens in the worker, with the claim in hand; a longer one does not.
HORIZON_S: Final = 0.8
# Nobody books a start further ahead than the horizon; but another worker may have been told another rate.
BOOKED_AHEAD_S: Final = 5.0
# A turn that was booked is the job's for so long; whoever comes later books anew, or late ones would pile up.
TURN_TOLERANCE_S: Final = 5.0
# After the provider's "too many" the rate is halved, and a tenth of the full rate comes back every few seconds.
GROW_EVERY_S: Final = 5.0
GROW_STEP: Final = 0.1
MIN_RATE: Final = 1.0
# A held job comes back at the latest after this long, to end at its deadline or to be the next probe; and soon while
# a probe is under way, which may be the last one.
HELD_S: Final = 30.0
PROBE_S: Final = 2.0
# Failures are reported within seconds; what was taken for so long, and nobody has complained, has gone well.
REPORTED_WITHIN_S: Final = 30.0
# The sender may go on shortly before a job's last moment to start: so long before that, the job comes back.
LAST_CHANCE_S: Final = 2.0
# How long a ledger keeps a turn that nobody took: it is worthless long before.
TURN_KEPT_S: Final = 60.0
# A template's name may be anybody's typing error; where nobody has asked for it for so long, its hold is over.
HOLD_KEPT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Lane:
    """What one request would use of the limits.

    *quota*: names what shares the app's or the account's quota. *recipient*: the full number; no ledger stores it
    as it is. *rate*: the sender's full rate, in messages a second. *latest_start* and *deadline* in Unix seconds.
    """

    sender: str
    quota: str
    recipient: str
    template: str
    language: str
    rate: float
    latest_start: float
    deadline: float

    def __repr__(self) -> str:
        """Everything but the recipient."""
        return f"Lane(sender={self.sender!r}, template={self.template!r}, language={self.language!r})"


@dataclass(frozen=True, slots=True)
class Cut:
    """The rate was cut to *rate* messages a second at *at*."""

    rate: float
    at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is sent but probes: since *since*, the next probe at *probe_at*, *probes* of them so far.

    *by_report*: what is sent is taken, and reported as failed afterwards: then an acceptance alone proves nothing.
    *cleared_at*: since when there was one, and no such report; None: there was none yet.
    """

    since: float
    probe_at: float
    probes: int = 0
    by_report: bool = False
    cleared_at: float | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """What the ledger knows of a lane, before or after a booking.

    *sender_paid_until* and *pair_paid_until*: until when all that was booked is paid for. *turn*: the start that
    this very job has booked with its recipient. *sender_hold*, *template_hold*: whether the sender, or this
    template in this language, is held. *quota_until*: until when the quota is used up.
    """

    sender_paid_until: float = 0.0
    cut: Cut | None = None
    pair_paid_until: float = 0.0
    turn: float | None = None
    quota_until: float = 0.0
    sender_hold: Hold | None = None
    template_hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """Send at *start_at*, which is at most ``HORIZON_S`` away.

    To be kept with the claim: *sender_paid_until*, *pair_paid_until*, the holds as they are after this probe, and
    that the job's turn is used up.
    """

    start_at: float
    sender_paid_until: float
    pair_paid_until: float
    sender_hold: Hold | None
    template_hold: Hold | None

    @property
    def is_probe(self) -> bool:
        """Whether this request finds out if a hold can end."""
        return self.sender_hold is not None or self.template_hold is not None


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """The recipient's turn comes at *start_at*: keep *pair_paid_until* and the job's turn; come back then."""

    start_at: float
    pair_paid_until: float


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing may be sent now: come back at *until*. Nothing is booked."""

    until: float


@dataclass(frozen=True, slots=True)
class Full:
    """The sender's next start is too far away to wait for with a claim: ask again at *until*. Nothing is booked."""

    until: float


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Its recipient's turn would come after the last moment to start. Nothing is booked."""


Pace = Go | TakeTurn | Held | Full | NoRoom


def book(paid_until: float, now: float, *, interval_s: float, burst: float) -> tuple[float, float]:
    """Book one more: returns its start, and until when everything is paid for then.

    *burst* are the bookings that can start at once after a long rest, at least 1.
    """
    paid = max(paid_until, now) + interval_s
    return max(now, paid - burst * interval_s), paid


def put_off(
    paid_until: float, until: float, *, begun_at: float, latest_start: float | None
) -> tuple[float, float | None]:
    """Let a recipient wait until *until*, as one that refused a request which began at *begun_at*.

    Returns until when everything is paid for then, and the retry's turn. From then on the burst is used up: one starts
    every ``PAIR_INTERVAL_S``. The refused job is the first of them, or stands behind those who have booked later
    starts than its own; it has no turn where that comes after *latest_start*, or is not tried again (None).
    """
    burst_s = (PAIR_BURST - 1) * PAIR_INTERVAL_S
    # Where nobody has booked behind it, what the refused request has paid for is its retry's: it was not taken.
    is_last = paid_until - burst_s - PAIR_INTERVAL_S <= begun_at + PAIR_MARGIN_S
    before = paid_until - PAIR_INTERVAL_S if is_last else paid_until
    turn = until if before <= until + burst_s else before - burst_s + PAIR_MARGIN_S
    if latest_start is None or turn > latest_start:
        return max(paid_until, until + burst_s), None
    return max(paid_until, max(before, until + burst_s) + PAIR_INTERVAL_S), turn


def current_rate(full: float, cut: Cut | None, now: float) -> float:
    """Tell the rate at *now*, in messages a second: it grows back step by step after a cut."""
    # A cut that is still to come is from before the clock was set back: there is no telling how long ago that was.
    if cut is None or now < cut.at:
        return full
    steps = math.floor((now - cut.at) / GROW_EVERY_S)
    return min(full, cut.rate + steps * GROW_STEP * full)


def cut_rate(full: float, cut: Cut | None, *, now: float, begun_at: float) -> Cut | None:
    """Halve the rate after a refusal of a request that began at *begun_at*.

    None where that request began before the last cut: it was sent at the old rate, and says nothing about the new.
    """
    if cut is not None and begun_at <= cut.at <= now:
        return None
    return Cut(max(current_rate(full, cut, now) / 2, min(full, MIN_RATE)), now)


def probe_pause_s(probes: int) -> float:
    """Tell how long after probe number *probes* the next one comes: 5 s, doubling up to 5 minutes."""
    return min(5.0 * 2.0 ** min(probes, 10), 300.0)


def begin_hold(now: float, *, by_report: bool = False) -> Hold:
    """Hold from *now* on; the first probe comes soon, as a token may be replaced at any moment."""
    return Hold(now, now + probe_pause_s(0), by_report=by_report)


def refuse_again(hold: Hold, *, by_report: bool) -> Hold:
    """Go on with *hold* after one more refusal: one by report says that an acceptance before it has proved nothing."""
    return replace(hold, by_report=True, cleared_at=None) if by_report else hold


def speak_against(hold: Hold, begun_at: float, now: float, *, by_report: bool) -> Hold | None:
    """Tell what is left of *hold* after a request, begun at *begun_at*, that was not refused; None: nothing is.

    Where refusals come by report, that has to be reported too, or to be true for as long as such reports take.
    """
    if began_before(hold, begun_at, now):
        return hold
    if by_report or not hold.by_report:
        return None
    if hold.cleared_at is None or hold.cleared_at > now:
        return replace(hold, cleared_at=now)
    return None if now - hold.cleared_at >= REPORTED_WITHIN_S else hold


def is_held(hold: Hold, now: float) -> bool:
    """Tell whether the next probe is still to come; one that is further away than any was booked by another clock."""
    return now < hold.probe_at <= now + probe_pause_s(hold.probes)


def began_before(hold: Hold, begun_at: float, now: float) -> bool:
    """Tell whether a request that began at *begun_at* can say nothing about *hold*, which began after it.

    A hold that is still to begin is from before the clock was set back, and older than whatever is answered now.
    """
    return begun_at < hold.since <= now


def is_being_probed(hold: Hold, now: float) -> bool:
    """Tell whether a probe began so recently that its answer may still come."""
    return hold.probes > 0 and now < hold.probe_at - probe_pause_s(hold.probes) + PROBE_S


def pace(lane: Lane, track: Track, *, now: float) -> Pace:
    """Find the start of a request, or what keeps it from having one."""
    holds = [hold for hold in (track.sender_hold, track.template_hold) if hold is not None]
    if any(is_held(hold, now) for hold in holds):
        wait_s = PROBE_S if any(is_being_probed(hold, now) for hold in holds) else HELD_S
        return Held(_come_back(lane, now + wait_s, now))
    if now < track.quota_until:
        return Held(_come_back(lane, min(now + HELD_S, track.quota_until), now))
    pair_start, pair_paid_until = _turn(track, now)
    if pair_start > lane.latest_start:
        return NoRoom()
    if pair_start - now > HORIZON_S:
        return TakeTurn(pair_start, pair_paid_until)
    rate = current_rate(lane.rate, track.cut, now)
    interval_s, burst = 1 / rate, max(1.0, rate * BURST_S)
    booked = track.sender_paid_until
    if booked > now + HORIZON_S + burst * interval_s + BOOKED_AHEAD_S:
        # Booked before the clock was set back: that is paid for by now, as far as anybody can tell.
        booked = now + burst * interval_s
    start, sender_paid_until = book(booked, now, interval_s=interval_s, burst=burst)
    if start - now > HORIZON_S:
        return Full(start - HORIZON_S / 2)
    return Go(
        max(start, pair_start),
        sender_paid_until,
        pair_paid_until,
        _probed(track.sender_hold, now),
        _probed(track.template_hold, now),
    )


def _come_back(lane: Lane, until: float, now: float) -> float:
    """Find when a job that may not be sent comes back: at *until*, but in time for one last chance, or for its end."""
    last_chance = lane.latest_start - LAST_CHANCE_S
    if last_chance < until and last_chance >= now + PROBE_S:
        return last_chance
    return min(until, lane.deadline)


def _turn(track: Track, now: float) -> tuple[float, float]:
    """Find the start that the recipient allows, and what is paid then; a turn that was booked is not paid twice."""
    if track.turn is not None and now <= track.turn + TURN_TOLERANCE_S:
        return max(track.turn, now), track.pair_paid_until
    start, paid = book(track.pair_paid_until, now, interval_s=PAIR_INTERVAL_S, burst=PAIR_BURST)
    return (start + PAIR_MARGIN_S if start > now else start), paid


def _probed(hold: Hold | None, now: float) -> Hold | None:
    if hold is None:
        return None
    return replace(hold, probe_at=now + probe_pause_s(hold.probes + 1), probes=hold.probes + 1)
