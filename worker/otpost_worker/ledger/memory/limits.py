"""Limits and holds in memory; see ``memory.ledger``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, assert_never

from otpost_worker.pacing import (
    HOLD_KEPT_S,
    TURN_KEPT_S,
    Cut,
    Full,
    Go,
    Held,
    Hold,
    NoRoom,
    TakeTurn,
    Track,
    current_rate,
    pace,
    put_off,
)
from otpost_worker.ports import HoldReport, Notice, SenderReport
from otpost_worker.standing import WORD_KEPT_S, Standing, Word, hear, heed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otpost_worker.outcome import Error
    from otpost_worker.pacing import Lane, Pace
    from otpost_worker.ports import ClaimRequest
    from otpost_worker.standing import Heard, News

# Stands for the sender as a whole where a template and its language would stand.
_WHOLE: Final = ("", "")


@dataclass(slots=True)
class _Sender:
    paid_until: float = 0.0
    cut: Cut | None = None
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class _Quota:
    until: float = 0.0
    pauses: int = 0


@dataclass(frozen=True, slots=True)
class _Held:
    hold: Hold
    error: Error | None
    remedy: str | None


@dataclass(slots=True)
class Limits:
    """What is known of senders and recipients."""

    senders: dict[str, _Sender] = field(default_factory=dict)
    quotas: dict[str, _Quota] = field(default_factory=dict)
    holds: dict[tuple[str, str, str], _Held] = field(default_factory=dict)
    pairs: dict[tuple[str, str], float] = field(default_factory=dict)
    turns: dict[tuple[str, int, int], float] = field(default_factory=dict)
    # With the time until which each is kept.
    words: dict[tuple[str, str, str, str], tuple[Word, float]] = field(default_factory=dict)

    def pace(self, request: ClaimRequest, lane: Lane, now: float) -> Pace:
        """Find the request's start and book it."""
        turn = (request.job_id, request.wish.run, request.wish.attempt)
        sender, pair = self._sender(lane.sender), (lane.sender, lane.recipient)
        track = Track(
            sender.paid_until,
            sender.cut,
            self.pairs.get(pair, 0.0),
            self.turns.get(turn),
            self._quota(lane.quota).until,
            self._hold(lane.sender, *_WHOLE),
            self._hold(lane.sender, lane.template, lane.language),
        )
        found = pace(lane, track, now=now)
        match found:
            case Go():
                sender.paid_until = found.sender_paid_until
                self.pairs[pair] = found.pair_paid_until
                self._probe((lane.sender, *_WHOLE), found.sender_hold)
                self._probe((lane.sender, lane.template, lane.language), found.template_hold)
            case TakeTurn(start_at, pair_paid_until):
                self.pairs[pair], self.turns[turn] = pair_paid_until, start_at
            case Held() | Full() | NoRoom():
                pass
            case _:  # pragma: no cover
                assert_never(found)
        return found

    def hear(self, heard: Heard, retry: tuple[str, int, int] | None, now: float) -> tuple[News, ...]:
        """Keep what an outcome says about its sender and its recipient; returns what is new with it."""
        self._put_off(heard, retry, now)
        lane = heard.lane
        sender, quota = self._sender(lane.sender), self._quota(lane.quota)
        before = Standing(
            sender.cut,
            quota.until,
            quota.pauses,
            sender.unanswered,
            self._hold(lane.sender, *_WHOLE),
            self._hold(lane.sender, lane.template, lane.language),
        )
        after, news = hear(heard, before, now=now)
        sender.cut, sender.unanswered = after.cut, after.unanswered
        self.quotas[lane.quota] = _Quota(after.quota_until, after.quota_pauses)
        self._keep((lane.sender, *_WHOLE), before.sender_hold, after.sender_hold, heard)
        self._keep((lane.sender, lane.template, lane.language), before.template_hold, after.template_hold, heard)
        return news

    def hear_word(self, heard: Heard, now: float) -> tuple[News, ...]:
        """Keep what was said by webhook, unless something newer was; see ``standing.heed``."""
        if heard.said is None:
            return self.hear(heard, None, now)
        key = (heard.lane.sender, heard.lane.template, heard.lane.language, heard.said.topic)
        last, kept_until = self.words.get(key, (None, 0.0))
        known = heed(heard, last if kept_until > now else None)
        if known is not None:
            return known
        news = self.hear(heard, None, now)
        self.words[key] = (Word(heard.said, heard.signal, news), now + WORD_KEPT_S)
        return news

    def _put_off(self, heard: Heard, retry: tuple[str, int, int] | None, now: float) -> None:
        if heard.pair_until is None:
            return
        lane, pair = heard.lane, (heard.lane.sender, heard.lane.recipient)
        latest_start = lane.latest_start if retry else None
        until = max(heard.pair_until, now)
        paid_until = self.pairs.get(pair, 0.0)
        self.pairs[pair], turn = put_off(paid_until, until, begun_at=heard.begun_at, latest_start=latest_start)
        if retry is not None and turn is not None:
            self.turns[retry] = turn

    def report(self, rates: Mapping[str, float], quotas: Mapping[str, str], now: float) -> dict[str, SenderReport]:
        """Tell how the senders are doing; see ``ports.Standings``."""
        return {sender: self._report(sender, rate, quotas[sender], now) for sender, rate in rates.items()}

    def probe_soon(self, senders: Iterable[str], now: float) -> None:
        """Let the next job of each of these senders be a probe."""
        chosen = set(senders)
        for key, held in self.holds.items():
            if key[0] in chosen:
                soon = replace(held.hold, probe_at=min(held.hold.probe_at, now))
                self.holds[key] = replace(held, hold=soon)

    def forget(self, now: float) -> None:
        """Forget what is paid for, turns that nobody took, and templates that nobody asks for any more."""
        self.pairs = {pair: paid_until for pair, paid_until in self.pairs.items() if paid_until > now}
        self.turns = {turn: start_at for turn, start_at in self.turns.items() if start_at > now - TURN_KEPT_S}
        self.words = {key: (word, until) for key, (word, until) in self.words.items() if until > now}
        self.holds = {
            key: held for key, held in self.holds.items() if key[1:] == _WHOLE or held.hold.probe_at > now - HOLD_KEPT_S
        }

    def last_turn(self, job_id: str, run: int) -> float | None:
        """Tell when the recipient's turn comes that this run has booked last."""
        return max((at for (of, number, _), at in self.turns.items() if (of, number) == (job_id, run)), default=None)

    def _sender(self, name: str) -> _Sender:
        return self.senders.setdefault(name, _Sender())

    def _quota(self, name: str) -> _Quota:
        return self.quotas.get(name, _Quota())

    def _hold(self, *key: str) -> Hold | None:
        sender, template, language = key
        held = self.holds.get((sender, template, language))
        return held.hold if held else None

    def _probe(self, key: tuple[str, str, str], hold: Hold | None) -> None:
        if hold is not None:
            self.holds[key] = replace(self.holds[key], hold=hold)

    def _keep(self, key: tuple[str, str, str], before: Hold | None, after: Hold | None, heard: Heard) -> None:
        if after == before:
            return
        if after is None:
            del self.holds[key]
        else:
            # What began it stays its reason.
            known = self.holds.get(key)
            error, remedy = (known.error, known.remedy) if known and before else (heard.error, heard.remedy)
            self.holds[key] = _Held(after, error, remedy)

    def _report(self, name: str, rate: float, quota: str, now: float) -> SenderReport:
        until = self._quota(quota).until
        return SenderReport(
            current_rate(rate, self._sender(name).cut, now),
            until if until > now else None,
            tuple(
                HoldReport(held.hold, template or None, language or None, held.error, held.remedy)
                for (sender, template, language), held in sorted(self.holds.items(), key=lambda item: item[0])
                if sender == name
            ),
            tuple(
                Notice(topic, template or None, language or None, word.said.notice, word.said.at)
                for (sender, template, language, topic), (word, until) in sorted(self.words.items())
                if sender == name and word.said.notice is not None and until > now
            ),
        )
