"""Where tests ask for webhooks: the control endpoints about them, and the same for tests in this process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from .answering import Handler, as_json, payload
from .cloud import wa_id_of
from .control import MAX_PAGE, MAX_WAIT_S, ControlError, Fields, numeric
from .webhooks.planning import TakenMessage
from .webhooks.settings import parse_settings
from .webhooks.telling import Known, parse_telling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from .cloud import Verdict
    from .journal import Journal
    from .webhooks import Posting, Postman, Report

_REPORTS: Final = ("since", "limit", "callback", "message_id", "wait_answered", "settled", "timeout_s")
_POSTS: Final = ("since", "limit")
_TEXTS: Final = ("callback", "message_id")
_PAGE: Final = 10_000


class WebhookDesk:
    """Changes how webhooks are sent, sends single ones, and waits for what is under way."""

    def __init__(self, postman: Postman, journal: Journal) -> None:
        self._postman = postman
        self._journal = journal

    def set(self, **settings: object) -> None:
        """Change what is named, as `PUT /_simulator/webhooks` does.

        Raises:
            ControlError: with what to write instead.
        """
        self._postman.set(parse_settings(settings, self._postman.settings))

    async def expect(self, verdict: Verdict) -> None:
        """Plan what is reported of a message that was taken; returns once what comes before its answer was told."""
        entry, behaviour = verdict.entry, verdict.behaviour
        if entry.wamid is None or entry.recipient is None:
            return
        recipient, at = wa_id_of(entry, behaviour), entry.at + behaviour.delay_s
        message = TakenMessage(entry.wamid, entry.callback, entry.phone_number_id, recipient, at)
        await self._postman.expect(message, verdict.plan or self._postman.settings.plan)

    async def tell(self, what: Mapping[str, object]) -> Posting:
        """Post one webhook, as `POST /_simulator/webhooks` does; returns once it was tried for the first time.

        Raises:
            ControlError: with what to write instead.
        """
        telling = parse_telling(dict(what), self._postman.settings, self._find, at=time.time())
        return await self._postman.tell(telling)

    async def wait(self, *, answered: int = 0, settled: bool = False, timeout_s: float = 30.0) -> bool:
        """Wait until so many reports had a 200 and, if `settled`, nothing is to be posted; False after `timeout_s`."""
        return await self._postman.wait(answered=answered, settled=settled, timeout_s=timeout_s)

    def postings(self, since: int = 0, limit: int | None = None) -> list[Posting]:
        """The POSTs after number `since`, oldest first."""
        return self._postman.postings.entries(since, limit)

    def stats(self) -> dict[str, Any]:
        """Counts of reports, POSTs and answers."""
        return self._postman.stats()

    def routes(self) -> tuple[tuple[str, str, Handler], ...]:
        """Method, name and handler of each endpoint."""
        return (
            ("GET", "webhooks", self._show),
            ("PUT", "webhooks", self._change),
            ("POST", "webhooks", self._send),
            ("GET", "reports", self._reports),
            ("DELETE", "reports", self._clear),
            ("GET", "posts", self._posts),
        )

    async def _show(self, _request: web.Request) -> web.Response:
        return as_json(self._postman.settings.visible())

    async def _change(self, request: web.Request) -> web.Response:
        self._postman.set(parse_settings(await payload(request), self._postman.settings))
        return await self._show(request)

    async def _send(self, request: web.Request) -> web.Response:
        telling = parse_telling(await payload(request), self._postman.settings, self._find, at=time.time())
        return as_json(await self._postman.tell(telling))

    async def _reports(self, request: web.Request) -> web.Response:
        fields = _query(request.query, _REPORTS)
        answered, settled = fields.whole("wait_answered", 0) or 0, bool(fields.whole("settled", 0, 1))
        complete = True
        if answered or settled:
            timeout_s = fields.number("timeout_s", 0, MAX_WAIT_S)
            complete = await self.wait(
                answered=answered, settled=settled, timeout_s=30.0 if timeout_s is None else timeout_s
            )
        found = self._chosen(fields)
        return as_json(
            {
                "reports": found,
                "next": found[-1].seq if found else fields.whole("since", 0) or 0,
                "total": self._postman.reports.total,
                "waiting": self._postman.waiting,
                "complete": complete,
            }
        )

    def _chosen(self, fields: Fields) -> list[Report]:
        reports = self._postman.reports
        since, limit = fields.whole("since", 0) or 0, fields.whole("limit", 1, MAX_PAGE) or _PAGE
        callback, message_id = fields.text("callback"), fields.text("message_id")
        if callback is not None and message_id is not None:
            raise ControlError("the query must have callback or message_id, not both.")
        if callback is not None:
            found = reports.of_callback(callback)
        elif message_id is not None:
            found = reports.of_message(message_id)
        else:
            return reports.entries(since, limit)
        return [report for report in found if report.seq > since][:limit]

    async def _clear(self, _request: web.Request) -> web.Response:
        cleared = self._postman.reports.total
        return as_json({"waited": await self._postman.clear(), "cleared": cleared})

    async def _posts(self, request: web.Request) -> web.Response:
        fields = _query(request.query, _POSTS)
        since = fields.whole("since", 0) or 0
        found = self.postings(since, fields.whole("limit", 1, MAX_PAGE) or _PAGE)
        return as_json(
            {
                "posts": found,
                "next": found[-1].seq if found else since,
                "total": self._postman.postings.total,
                "waiting": self._postman.waiting,
            }
        )

    def _find(self, message_id: str | None, callback: str | None) -> Known | None:
        # From the newest: a callback that was sent twice means its last message.
        for entry in reversed(self._journal.entries()):
            if entry.wamid is None or entry.recipient is None:
                continue
            if entry.wamid == message_id or (callback is not None and entry.callback == callback):
                return Known(entry.wamid, entry.callback, entry.phone_number_id, entry.recipient)
        return None


def _query(query: Mapping[str, str], allowed: tuple[str, ...]) -> Fields:
    given = {name: text if name in _TEXTS else numeric(name, text) for name, text in query.items()}
    return Fields.of(given, "the query", allowed)
