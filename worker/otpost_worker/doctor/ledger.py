"""The ledger: whether it is there, and the one that all workers share; and how it says that the senders are [pure]."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from otpost.times import rfc3339
from otpost_worker.agreement import NEW_LEDGER, NoMark, NotCompared, Other, Same
from otpost_worker.doctor.facts import LedgerTrouble, NotAsked
from otpost_worker.doctor.findings import in_two, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otpost_worker.agreement import Comparison
    from otpost_worker.doctor.facts import DefaultTemplate, LedgerFacts
    from otpost_worker.doctor.findings import Finding
    from otpost_worker.ports import HoldReport, Notice, SenderReport

_SAME_URL = "let OTPOST_LEDGER_URL name the ledger that the workers use"


def judge_ledger(facts: LedgerFacts | LedgerTrouble, shared: Comparison | NotAsked | None) -> list[Finding]:
    """Judge our ledger; *shared*: what the broker says of it, None where there is no broker."""
    if isinstance(facts, LedgerTrouble):
        return [_judge_trouble(facts, shared)]
    if facts.writable:
        reach = ok("ledger", facts.where, f"it can be read and written; its identity is {facts.identity}")
    else:
        remedy = "run this as the user that the workers run as, and see that this user may write"
        reach = warning("ledger", facts.where, "it can be read, but not written by this user", remedy)
    unsafe = (in_two(one, otherwise="see docs/deployment.md") for one in facts.warnings)
    return [
        reach,
        *(warning("ledger", facts.where, what, remedy) for what, remedy in unsafe),
        *_judge_identity(facts, shared),
    ]


def _judge_trouble(facts: LedgerTrouble, shared: Comparison | NotAsked | None) -> Finding:
    what, remedy = in_two(facts.why, otherwise="check OTPOST_LEDGER_URL")
    if isinstance(shared, Other):
        theirs = f"; the workers of this broker share {shared.identity or 'another one'}"
        return problem("ledger", facts.where, what + theirs, f"{remedy}; {_SAME_URL}")
    # Where no worker has run yet, there is nothing that could be missing.
    judge = warning if facts.missing else problem
    return judge("ledger", facts.where, what, remedy)


def _judge_identity(facts: LedgerFacts, shared: Comparison | NotAsked | None) -> Iterator[Finding]:
    match shared:
        case None:
            return
        case Same():
            yield ok("ledger shared", facts.where, "it is the one that the workers of this broker share")
        case Other(theirs):
            what = f"the workers of this broker share another one, {theirs or 'which it does not tell'}"
            remedy = f"{_SAME_URL}; if that one is gone for good, stop all workers and run '{NEW_LEDGER}'"
            yield problem("ledger shared", facts.where, what, remedy)
        case NoMark():
            remedy = "a worker that may declare tells it when it starts next"
            yield warning(
                "ledger shared", facts.where, "no worker has told the broker yet which ledger it uses", remedy
            )
        case NotCompared(why) | NotAsked(why):
            what, remedy = in_two(why, otherwise="try again")
            yield warning("ledger shared", facts.where, f"it cannot be compared: {what}", remedy)
        case _:
            assert_never(shared)


def judge_senders(
    reports: Mapping[str, SenderReport], rates: Mapping[str, float], defaults: Mapping[str, DefaultTemplate]
) -> list[Finding]:
    """Judge how the senders are doing; *rates*: their full rates; *defaults*: their default templates."""
    return [
        finding
        for name, report in reports.items()
        for finding in _judge_sender(name, report, rates[name], defaults[name])
    ]


def _judge_sender(name: str, report: SenderReport, rate: float, default: DefaultTemplate) -> Iterator[Finding]:
    where = f"sender {name}"
    for hold in report.holds:
        yield _judge_hold(where, hold, default)
    if report.quota_until is not None:
        what = f"the quota of its app or account is used up; nothing is sent until {rfc3339(report.quota_until)}"
        yield warning("sender", where, what, "wait; if it happens often, ask Meta for more, or spread the jobs")
    if report.rate < rate:
        what = f"it sends {report.rate:g} messages a second in place of {rate:g}, as the provider found it too fast"
        yield warning("sender", where, what, "the rate grows back by itself; if it happens often, set a lower rate")
    yield from (_judge_notice(where, notice) for notice in report.notices)
    if not report.holds and report.quota_until is None and report.rate >= rate:
        yield ok("sender", where, f"it is not held; {rate:g} messages a second")


def _judge_notice(where: str, notice: Notice) -> Finding:
    what = f"template {notice.template} ({notice.language}): {notice.text}" if notice.template else notice.text
    remedy = "see it in Meta's WhatsApp Manager; this is shown until a newer webhook takes it back, for 8 days at most"
    return warning("sender", where, f"{what}; said at {rfc3339(notice.at)}", remedy)


def _judge_hold(where: str, hold: HoldReport, default: DefaultTemplate) -> Finding:
    stopped = "halted" if hold.template is None else f"template {hold.template} ({hold.language}) held back"
    error = hold.error
    code = f" (code {error.code})" if error and error.code is not None else ""
    why = f": {error.title or error.kind}{code}" if error else ""
    probe = f"; a job tries again from {rfc3339(hold.hold.probe_at)} on"
    remedy = hold.remedy or "it ends by itself once the provider takes a message"
    judge = problem if hold.is_met_by(*default) else warning
    return judge("sender", where, f"{stopped} since {rfc3339(hold.hold.since)}{why}{probe}", remedy)
