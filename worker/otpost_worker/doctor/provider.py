"""The provider: whether token and number are good, and whether its clock agrees with ours [pure]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from otpost_worker.clocks import TOLERATED_S, describe_offset
from otpost_worker.doctor.findings import Finding, Level, in_two, ok, problem, warning
from otpost_worker.providers.cloud_api_health import AVAILABLE, BLOCKED, NoAnswer, NumberHealth, QuestionRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otpost_worker.doctor.facts import ProviderFacts
    from otpost_worker.providers.cloud_api_health import Entity

_CHECK: Final = "provider"
# The login itself. Whatever else refuses the question may let messages through: sending needs fewer rights.
_LOGIN: Final = frozenset({0, 102, 104, 190})
_THROTTLES: Final = frozenset({4, 17, 32, 613, 80007, 80008, 130429})


def judge_provider(facts: ProviderFacts) -> list[Finding]:
    """Judge what the provider says of one sender."""
    where = f"sender {facts.sender}, {facts.where}"
    health = facts.health
    match health:
        case NoAnswer(why):
            remedy = "check OTPOST_API_BASE, and whether this machine may reach it (a proxy is never used)"
            return [problem(_CHECK, where, why, remedy)]
        case QuestionRefused():
            return [_judge_refusal(where, health)]
        case NumberHealth():
            return list(_judge_health(where, health))
        case _:
            assert_never(health)


def _judge_refusal(where: str, refused: QuestionRefused) -> Finding:
    code = f"code {refused.code}" if refused.code is not None else f"HTTP status {refused.http_status}"
    if refused.code in _LOGIN:
        return problem(_CHECK, where, f"the token is refused: {refused.title} ({code})", refused.remedy)
    if refused.code in _THROTTLES:
        return warning(_CHECK, where, f"it was asked too often: {refused.title} ({code})", "ask again in a while")
    what = f"it does not tell how the number is: {refused.title} ({code})"
    remedy = (
        f"if messages are sent all the same, the token only lacks whatsapp_business_management; else {refused.remedy}"
    )
    return warning(_CHECK, where, what, remedy)


def _judge_health(where: str, health: NumberHealth) -> Iterator[Finding]:
    impaired = [entity for entity in health.entities if entity.can_send != AVAILABLE]
    if not impaired and health.can_send == AVAILABLE:
        yield ok(_CHECK, where, "the token is good, and the number can send")
    elif not impaired:
        yield _judge_condition(where, health.can_send, f"the number: {health.can_send}", _ASK_META)
    for entity in impaired:
        yield from _judge_entity(where, entity)


_ASK_META: Final = "see the account in Meta's WhatsApp Manager, and Business Support Home"


def _judge_entity(where: str, entity: Entity) -> Iterator[Finding]:
    named = f"{entity.kind} {entity.id}: {entity.can_send}"
    for obstacle in entity.obstacles:
        code = f" (code {obstacle.code})" if obstacle.code is not None else ""
        yield _judge_condition(
            where, entity.can_send, f"{named}: {obstacle.what}{code}", obstacle.solution or _ASK_META
        )
    if not entity.obstacles:
        yield _judge_condition(where, entity.can_send, named, _ASK_META)


def _judge_condition(where: str, can_send: str, what: str, remedy: str) -> Finding:
    return Finding(_CHECK, Level.PROBLEM if can_send == BLOCKED else Level.WARNING, where, what, remedy)


def judge_clock(all_facts: Iterable[ProviderFacts]) -> list[Finding]:
    """Judge our clock against the provider's: the worst of its answers counts."""
    offsets = [(facts.clock_offset_s, facts.where) for facts in all_facts if facts.clock_offset_s is not None]
    if not offsets:
        return []
    offset_s, where = max(offsets, key=lambda one: abs(one[0]))
    if abs(offset_s) <= TOLERATED_S:
        return [ok("clock", where, "ours agrees with the provider's")]
    return [problem("clock", where, *in_two(describe_offset(offset_s, "the provider"), otherwise="set it"))]
