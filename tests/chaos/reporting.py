"""How the simulator reports in a run: what becomes of whose messages, in which disorder, and how often it tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import aiohttp

# Whoever finds one of these in a text can be sure that it leaked.
APP_SECRET: Final = "chaos-app-secret-7c1f4e"
VERIFY_TOKEN: Final = "chaos-verify-token-92ab"
# The least that may be set; half a minute later the check of a message falls due.
MESSAGE_TTL_S: Final = 30
_CHECK_S: Final = MESSAGE_TTL_S + 30.0
# What the provider says that it holds back is looked after sooner.
_CHECK_OF_HELD_S: Final = 30.0
_SHUFFLE_S: Final = 1.0
_PATIENCE_S: Final = 30.0
# What is not answered in time is posted again soon, and until somebody takes it.
_RETRY: Final = {"first_s": 0.3, "factor": 1.5, "ceiling_s": 2.0, "for_s": 600}
_TIMEOUT_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How it is reported, by *seed*; *check_share*: of the time until a check what is really waited.

    *is_silent*: of who asks for no other plan nothing is ever reported.
    """

    seed: int
    check_share: float
    is_silent: bool

    @property
    def check_s(self) -> float:
        """How long after an acceptance it is looked whether a delivery was reported."""
        return _CHECK_S * self.check_share

    @property
    def check_of_held_s(self) -> float:
        """The same for what the provider holds back."""
        return _CHECK_OF_HELD_S * self.check_share

    async def teach(self, api: str, port: int) -> None:
        """Tell the simulator at *api* to report so, to the receivers behind *port*."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE_S)) as session:
            for rule in self._rules():
                async with session.post(f"{api}/_simulator/rules", json=rule) as answer:
                    answer.raise_for_status()
            async with session.put(f"{api}/_simulator/webhooks", json=self._settings(port)) as answer:
                answer.raise_for_status()

    def _settings(self, port: int) -> dict[str, Any]:
        # Some of those whose answer is lost are reported before they are sent again, some after.
        steps = [
            {"status": "sent", "after_s": 0.1, "until_s": self.check_s * 0.5},
            {"status": "delivered", "after_s": 0.2, "until_s": self.check_s * 0.6},
        ]
        return {
            "url": f"http://127.0.0.1:{port}/webhook",
            "secret": APP_SECRET,
            "plan": {"steps": [] if self.is_silent else steps},
            "duplicates": 1,
            "shuffle_s": _SHUFFLE_S,
            "seed": self.seed,
            "batch": (1, 3)[self.seed % 2],
            "batch_wait_s": 0.1,
            "retry": _RETRY,
            "timeout_s": _TIMEOUT_S,
        }

    def _rules(self) -> list[dict[str, Any]]:
        """Add what no recipient asks for by itself; see ``sorts.REPORTED``."""
        arrived = [{"status": "sent", "after_s": 0.1}, {"status": "delivered", "after_s": 0.4}]
        failed = {"status": "failed", "code": 131016, "after_s": self.check_s * 0.8}
        late = {"status": "delivered", "after_s": self.check_s + 3.0}
        return [
            {"match": {"to_prefix": "+1210555"}, "webhooks": {"steps": [*arrived, failed]}},
            {"match": {"to_prefix": "+1210556"}, "webhooks": {"steps": [arrived[0], late]}},
        ]
