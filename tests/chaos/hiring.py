"""What the workers and receivers of a run are told: their commands and their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chaos.crew import Hand, clean_environment
from chaos.plan import Line
from chaos.reporting import APP_SECRET, MESSAGE_TTL_S, VERIFY_TOKEN
from chaos.sorts import SENDERS
from private_rabbitmq import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from broker import Vhost
    from chaos.plan import Death
    from chaos.proxy import Proxy
    from otpost.sealing import PrivateKey

TIMEOUT_S: Final = 2.0
GRACE_S: Final = 10.0
# What the processes write down, in the folder of the run.
TRACE: Final = "trace.jsonl"
STARVED: Final = "starved.jsonl"


def clock_file(folder: Path, worker: str) -> Path:
    """Find the file that a worker's clock goes by."""
    return folder / f"{worker}.clock"


@dataclass(frozen=True, slots=True)
class Hiring:
    """Makes ready who works on *vhost*, over *proxies*. *keys* are those that workers hold; *check_share*: see run."""

    vhost: Vhost
    folder: Path
    proxies: Mapping[Line, Sequence[Proxy]]
    keys: Sequence[PrivateKey]
    check_share: float

    def worker(self, number: int, deaths: Sequence[Death]) -> Hand:
        """Make ready the worker of this number, whose processes die so."""
        name, redis = f"w{number + 1}", self.proxies[Line.LEDGER]
        ledger = f"redis://127.0.0.1:{redis[number].port}/0" if redis else f"sqlite:///{self.folder / 'ledger.db'}"
        given = {
            "ledger_url": ledger,
            "private_keys": ",".join(key.reveal() for key in self.keys),
            "template": "verification_code",
            "language": "en_US",
            "api_base": f"http://127.0.0.1:{self.proxies[Line.SIMULATOR][number].port}",
            "http_timeout_s": TIMEOUT_S,
            "http_connect_timeout_s": 1,
        }
        command = [
            *("-m", "chaos.children.worker", "--name", name, "--checks", str(self.check_share)),
            *("--clock", str(clock_file(self.folder, name)), "--trace", str(self.folder / TRACE)),
            *("--starved", str(self.folder / STARVED)),
        ]
        return Hand(name, command, b'"consuming"', self._settings(Line.BROKER, number, given), deaths)

    def receiver(self, number: int, port: int) -> Hand:
        """Make ready the receiver of this number, which listens on *port*."""
        name = f"r{number + 1}"
        command = ["-m", "chaos.children.receiver", name, str(self.folder / STARVED)]
        return Hand(name, command, b'"storing"', self._settings(Line.STORING, number, {"webhook_port": port}))

    def _settings(self, line: Line, number: int, given: Mapping[str, object]) -> dict[str, str]:
        senders = self.folder / "senders.toml"
        senders.write_text(_senders(), encoding="utf-8")
        broker = self.proxies[line][number].port
        common = {
            "broker_url": f"amqp://{USER}:{PASSWORD}@127.0.0.1:{broker}/{self.vhost.name}",
            "senders_file": senders,
            "shutdown_grace_s": GRACE_S,
            "http_port": 0,
            "log_format": "json",
            "log_level": "debug",
        }
        told = {**common, **given}
        return clean_environment() | {f"OTPOST_{name.upper()}": str(value) for name, value in told.items()}


def _senders() -> str:
    """Write the file of senders, the same for everybody."""
    return "".join(
        f'[senders.{sender}]\nphone_number_id = "10654035224292{digit}"\naccess_token = "EAAG-a-token"\n'
        f'app_secret = "{APP_SECRET}"\nverify_token = "{VERIFY_TOKEN}"\nmessage_ttl_s = {MESSAGE_TTL_S}\n'
        for digit, sender in enumerate(SENDERS)
    )
