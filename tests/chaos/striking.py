"""Making things go wrong as planned, and writing down what really struck."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from chaos.checker.evidence import ClockMove, Struck
from chaos.children.probes import set_clock
from chaos.plan import FaultKind
from chaos.proxy import Way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.crew import Hand
    from chaos.plan import Fault, Plan
    from chaos.proxy import Proxy
    from chaos.stage import Stage

_ALARM: Final = ("set_vm_memory_high_watermark", "0")
_NO_ALARM: Final = ("set_vm_memory_high_watermark", "absolute", "1GB")
# A worker that was just killed is back sooner; until then nothing could be struck.
_CONNECTED_WITHIN_S: Final = 5.0
_POLL_S: Final = 0.05
# How long answers may be lost before the order to lose them is taken back.
_LOSING_S: Final = 4.0

_WAYS: Final = {
    FaultKind.STALL: (Way.TO_SERVER, Way.TO_CLIENT),
    FaultKind.STALL_THEN_CUT: (Way.TO_SERVER, Way.TO_CLIENT),
    FaultKind.STALL_TO_SERVER: (Way.TO_SERVER,),
    FaultKind.STALL_TO_CLIENT: (Way.TO_CLIENT,),
}


@dataclass
class Striker:
    """Strikes on *stage*; *struck* and *clock_moves* are what really happened.

    *one_clock*: all workers share theirs, as those of one machine do.
    """

    stage: Stage
    one_clock: bool
    struck: list[Struck] = field(default_factory=list)
    clock_moves: list[ClockMove] = field(default_factory=list)

    async def play(self, plan: Plan) -> None:
        """Let everything go wrong at its time, and return when all of it is over."""
        async with asyncio.TaskGroup() as tasks:
            for fault in plan.faults:
                tasks.create_task(self._at_its_time(fault))

    async def _at_its_time(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        began_at = time.time()
        count = await self._strike(fault)
        if count:
            whose = "everybody" if fault.victim is None else self._hands(fault)[fault.victim].name
            self.struck.append(Struck(began_at, time.time(), fault.name, f"({whose}, {count})"))

    async def _strike(self, fault: Fault) -> int:
        """Do it; returns how many connections, answers or processes it struck."""
        match fault.kind:
            case FaultKind.KILL | FaultKind.TERM | FaultKind.RECEIVER_KILL | FaultKind.RECEIVER_TERM:
                return self._signal(fault)
            case FaultKind.BROKER_KILL | FaultKind.BROKER_RESTART:
                return await self._fell_broker(fault)
            case FaultKind.BROKER_ALARM:
                return await self._alarm(fault)
            case FaultKind.LEDGER_KILL | FaultKind.LEDGER_RESTART | FaultKind.LEDGER_STILL:
                return await self._fell_ledger(fault)
            case FaultKind.CLOCK:
                return self._move_clock(fault)
            case _:
                return await self._disturb(fault, self._proxies(fault))

    def _signal(self, fault: Fault) -> int:
        kills = fault.kind in (FaultKind.KILL, FaultKind.RECEIVER_KILL)
        return self.stage.crew.signal(
            self._hands(fault)[fault.victim or 0], signal.SIGKILL if kills else signal.SIGTERM
        )

    def _hands(self, fault: Fault) -> Sequence[Hand]:
        return self.stage.crew.receivers if fault.strikes_receivers else self.stage.crew.workers

    async def _fell_broker(self, fault: Fault) -> int:
        node = self.stage.node
        await asyncio.to_thread(node.sync)
        if fault.kind is FaultKind.BROKER_KILL:
            await node.kill_async()
        else:
            await node.stop_async()
        await asyncio.sleep(fault.for_s)
        await node.start_async()
        return 1

    async def _fell_ledger(self, fault: Fault) -> int:
        redis = self.stage.redis
        assert redis is not None
        if fault.kind is FaultKind.LEDGER_STILL:
            redis.stand_still()
            await asyncio.sleep(fault.for_s)
            redis.go_on()
            return 1
        await asyncio.to_thread(redis.kill if fault.kind is FaultKind.LEDGER_KILL else redis.stop)
        await asyncio.sleep(fault.for_s)
        await asyncio.to_thread(redis.start)
        return 1

    async def _alarm(self, fault: Fault) -> int:
        node = self.stage.node
        await asyncio.to_thread(node.ctl, *_ALARM)
        await asyncio.sleep(fault.for_s)
        await asyncio.to_thread(node.ctl, *_NO_ALARM)
        return 1

    def _move_clock(self, fault: Fault) -> int:
        crew = self.stage.crew
        moved = crew.workers if self.one_clock or fault.victim is None else [crew.workers[fault.victim]]
        for hand in moved:
            set_clock(self.stage.clock_file(hand.name), fault.amount)
            self.clock_moves.append(ClockMove(time.time(), fault.amount, hand.name))
        return len(moved)

    def _proxies(self, fault: Fault) -> Sequence[Proxy]:
        assert fault.line is not None
        proxies = self.stage.proxies[fault.line]
        return proxies if fault.victim is None else [proxies[fault.victim]]

    async def _disturb(self, fault: Fault, proxies: Sequence[Proxy]) -> int:
        await _until_connected(proxies)
        match fault.kind:
            case FaultKind.CUT:
                return sum(proxy.cut() for proxy in proxies)
            case FaultKind.HALF_CLOSE_CLIENT:
                return sum(proxy.half_close(Way.TO_CLIENT) for proxy in proxies)
            case FaultKind.HALF_CLOSE_SERVER:
                return sum(proxy.half_close(Way.TO_SERVER) for proxy in proxies)
            case FaultKind.REFUSE:
                return await self._refuse(fault, proxies)
            case FaultKind.LOSE_ANSWERS:
                return await self._lose_answers(fault, proxies)
            case _:
                return await self._stall(fault, proxies)

    async def _refuse(self, fault: Fault, proxies: Sequence[Proxy]) -> int:
        for proxy in proxies:
            await proxy.refuse()
        struck = sum(proxy.cut() for proxy in proxies)
        await asyncio.sleep(fault.for_s)
        for proxy in proxies:
            await proxy.accept()
        return struck

    async def _lose_answers(self, fault: Fault, proxies: Sequence[Proxy]) -> int:
        before = sum(proxy.lost_answers for proxy in proxies)
        for proxy in proxies:
            proxy.lose_answers(int(fault.amount))
        await asyncio.sleep(_LOSING_S)
        for proxy in proxies:
            proxy.keep_answers()
        return sum(proxy.lost_answers for proxy in proxies) - before

    async def _stall(self, fault: Fault, proxies: Sequence[Proxy]) -> int:
        struck = sum(proxy.stall(*_WAYS[fault.kind]) for proxy in proxies)
        await asyncio.sleep(fault.for_s)
        for proxy in proxies:
            if fault.kind is FaultKind.STALL_THEN_CUT:
                struck = max(struck, proxy.cut())
            proxy.resume()
        return struck

    async def heal(self) -> None:
        """Let everything work from now on."""
        for proxy in self.stage.all_proxies:
            await proxy.heal()


async def _until_connected(proxies: Sequence[Proxy]) -> None:
    """Wait a while for something to strike."""
    until = time.monotonic() + _CONNECTED_WITHIN_S
    while time.monotonic() < until:
        if any(proxy.connections for proxy in proxies):
            return
        await asyncio.sleep(_POLL_S)
