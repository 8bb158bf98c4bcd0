"""docs/webhooks.md says what the receiver does: its answers, limits, settings and files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from otpost_worker.brokers.rabbitmq.webhook_queue import STORED_WITHIN_S
from otpost_worker.settings import KNOWN, Settings
from otpost_worker.webhook import MAX_BODIES, MAX_BODY_BYTES, MAX_BYTES
from otpost_worker.webhook_answers import ANSWERS, HANG_UPS, HangUp, Result
from otpost_worker.webhook_connections import KEEP_ALIVE_S, MAX_AHEAD_BYTES, MAX_CONNECTIONS, READ_WITHIN_S

ROOT: Final = Path(__file__).parent.parent.parent
TEXT: Final = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")


def test_every_answer_is_in_the_table_and_no_other() -> None:
    table = TEXT.partition("## What it answers")[2].partition("\n\n## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    told = {int(code) for cell in first for code in re.findall(r"\d{3}", cell)}
    assert told == {answer.status for answer in ANSWERS.values()}
    assert set(ANSWERS) == set(Result)
    assert set(HANG_UPS) == set(HangUp)


def test_what_is_refused_has_advice_unless_somebody_else_gives_it() -> None:
    silent = {result for result, answer in ANSWERS.items() if answer.advice is None}
    assert silent == {Result.STORED, Result.VERIFIED, Result.NOT_STORED}


def test_its_limits_are_those_of_the_receiver() -> None:
    assert f"At most {MAX_BODIES} bodies with {MAX_BYTES // 1024**2} MiB together" in TEXT
    assert f"over at most {MAX_CONNECTIONS} connections" in TEXT
    assert f"the headers of a request took more than {READ_WITHIN_S:g} s" in TEXT
    assert f"more than {MAX_AHEAD_BYTES // 1024} KiB; where an answer was not read for {READ_WITHIN_S:g} s" in TEXT
    assert f"after {KEEP_ALIVE_S:g} s without a request" in TEXT
    assert f"the body took more than {READ_WITHIN_S:g} s" in TEXT
    assert f"more than {MAX_BODY_BYTES // 1024**2} MiB" in TEXT
    assert f"the broker did not confirm within {STORED_WITHIN_S:g} s" in TEXT


def test_it_names_no_setting_that_is_none_and_the_defaults_are_right() -> None:
    named = set(re.findall(r"OTPOST_[A-Z_]*[A-Z]", TEXT))
    assert {name for name in KNOWN if name.startswith("OTPOST_WEBHOOK_")} <= named
    assert named <= KNOWN
    settings = Settings()
    assert f"| `{settings.webhook_host}`, {settings.webhook_port} |" in TEXT
    assert f"| `{settings.webhook_path}` |" in TEXT


def test_its_links_lead_somewhere() -> None:
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", TEXT)]
    assert links
    for file, _, heading in links:
        page = ROOT / "docs" / file
        assert page.exists(), file
        if heading:
            text = page.read_text(encoding="utf-8")
            headings = {
                re.sub(r"[^a-z ]", "", line.lower()).strip().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            }
            assert heading in headings, heading


def test_its_unit_is_installed_with_the_files_that_it_reads() -> None:
    unit = (ROOT / "deploy/otpost-webhook.service").read_text(encoding="utf-8")
    for file in re.findall(r"^LoadCredential=\w+:(.*)$", unit, re.MULTILINE):
        assert f"sudo install -m 0600 /dev/stdin {file} " in TEXT
    [port] = re.findall(r"^Environment=OTPOST_HTTP_PORT=(\d+)$", unit, re.MULTILINE)
    assert f"curl http://127.0.0.1:{port}/readyz" in TEXT
