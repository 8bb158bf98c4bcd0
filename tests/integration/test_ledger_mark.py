"""Which ledger a broker's workers share: the first of them says so, and the broker compares all others."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from broker import Vhost, fresh_vhost
from command import otpost
from otpost import AccessRefused, rabbitmq
from otpost_worker.agreement import Comparison, LedgerDiffers, NoMark, NotCompared, Other, Same
from otpost_worker.brokers.rabbitmq.ledger_mark import compare_ledger, forget_ledger, mark_ledger
from service import PATIENCE_S, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from private_rabbitmq import PrivateRabbitMQ

OURS: Final = "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
THEIRS: Final = "ffffffff-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
MARK: Final = "otpost.ledger"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    connection = await rabbitmq.connect(url, name="test", timeout_s=PATIENCE_S)
    try:
        yield connection
    finally:
        await rabbitmq.close_quietly(connection)


@pytest.fixture
async def connection(vhost: Vhost) -> AsyncIterator[AbstractConnection]:
    async with connected(vhost.url) as opened:
        yield opened


async def test_the_first_worker_writes_its_ledger_down_and_the_others_are_compared(
    vhost: Vhost, connection: AbstractConnection
) -> None:
    assert await compare_ledger(connection, OURS) == NoMark()
    assert vhost.exchanges() == {}
    assert await mark_ledger(connection, OURS) == Same()
    assert vhost.exchanges() == {MARK: "fanout"}
    assert await mark_ledger(connection, OURS) == Same()
    assert await mark_ledger(connection, THEIRS) == Other(OURS)
    assert await compare_ledger(connection, OURS) == Same()
    assert await compare_ledger(connection, THEIRS) == Other(OURS)
    assert await compare_ledger(connection, None) == Other(OURS)


async def test_of_workers_that_start_at_once_one_wins_and_the_others_learn_which(vhost: Vhost) -> None:
    ledgers = [f"{number:08}-0a1b-4a1b-8a1b-0a1b2c3d4e5f" for number in range(8)]

    async def start(ledger: str) -> Comparison:
        async with connected(vhost.url) as connection:
            return await mark_ledger(connection, ledger)

    answers = await asyncio.gather(*map(start, ledgers))
    [winner] = [ledger for ledger, answer in zip(ledgers, answers, strict=True) if answer == Same()]
    assert [answer for answer in answers if answer != Same()] == [Other(winner)] * 7


async def test_it_outlives_a_restart_and_takes_no_message(vhost: Vhost, connection: AbstractConnection) -> None:
    await mark_ledger(connection, OURS)
    [mark] = [one for one in vhost.api.request("GET", f"/exchanges/{vhost.name}") if one["name"] == MARK]
    assert (mark["durable"], mark["auto_delete"]) == (True, False)
    assert vhost.bindings() == set()


@pytest.mark.parametrize(("length", "told"), [(50, OURS), (80, "0a1b2c3d-0a1b-4a…"), (120, None)])
async def test_the_long_name_of_a_virtual_host_leaves_less_room_for_the_brokers_words(
    broker_node: PrivateRabbitMQ, length: int, told: str | None
) -> None:
    with fresh_vhost(broker_node) as short:
        vhost = Vhost(broker_node, f"{short.name}-".ljust(length, "x"))
        vhost.api.request("PUT", f"/vhosts/{vhost.name}")
        try:
            vhost.set_permissions()
            async with connected(vhost.url) as connection:
                await mark_ledger(connection, OURS)
                assert await mark_ledger(connection, THEIRS) == Other(told)
                assert await mark_ledger(connection, OURS) == Same()
        finally:
            vhost.delete()


async def test_what_somebody_else_made_under_that_name_is_another_ledger(
    vhost: Vhost, connection: AbstractConnection
) -> None:
    for described in ({"type": "fanout"}, {"type": "topic"}):
        vhost.api.request("PUT", f"/exchanges/{vhost.name}/{MARK}", {"durable": True, **described})
        assert await mark_ledger(connection, OURS) == Other(None)
        assert await compare_ledger(connection, None) == Other(None)
        await forget_ledger(connection)
    assert "the broker does not tell which" in str(LedgerDiffers(None, OURS))


async def test_without_the_right_to_configure_nothing_is_compared(vhost: Vhost, connection: AbstractConnection) -> None:
    await mark_ledger(connection, OURS)
    vhost.set_permissions(configure="^$")
    async with connected(vhost.url) as restricted:
        for ask in (mark_ledger, compare_ledger):
            answer = await ask(restricted, OURS)
            assert isinstance(answer, NotCompared)
            assert answer.why.startswith(f"ACCESS_REFUSED - access to exchange '{MARK}'")
            assert answer.why.endswith("; give the user the rights to configure, write and read 'otpost.ledger'")
        with pytest.raises(AccessRefused, match="it needs the right to configure"):
            await forget_ledger(restricted)


async def test_a_ledger_that_was_replaced_is_forgotten_by_command(vhost: Vhost, connection: AbstractConnection) -> None:
    await mark_ledger(connection, OURS)
    environment = {"OTPOST_BROKER_URL": vhost.url}
    declare = ("topology", "declare", "--sender", "default", "--new-ledger")
    unasked, done = await asyncio.gather(
        otpost(*declare, environment=environment), otpost(*declare, "--yes", environment=environment)
    )
    assert (unasked.status, "this needs --yes where nobody can be asked" in unasked.err) == (2, True)
    assert done.status == 0, done.err
    assert done.out.startswith("the next worker that starts tells which ledger all workers share\ndeclared ")
    assert await mark_ledger(connection, THEIRS) == Same()


async def test_no_ledger_is_forgotten_while_a_worker_works_with_it(
    vhost: Vhost, connection: AbstractConnection
) -> None:
    await declare_topology(vhost, "default")
    await mark_ledger(connection, OURS)
    await rabbitmq.Consumer.open(connection, "otpost.dropped", lambda _: None, prefetch=1)
    done = await otpost(
        *("topology", "declare", "--sender", "default", "--new-ledger", "--yes"),
        environment={"OTPOST_BROKER_URL": vhost.url},
    )
    assert done.status == 1
    assert done.err == (
        "otpost: 1 workers still consume from this broker, with the ledger that is to be forgotten: stop them first, "
        "and start them with the new one\n"
    )
    assert await mark_ledger(connection, THEIRS) == Other(OURS)
