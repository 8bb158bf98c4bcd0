"""docs/simulator.md names every plan, setting and kind of webhook that there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import orjson

from otpost_worker.simulator import PLANS, WebhookSettings
from otpost_worker.simulator.behaviour import BEHAVIOURS, PLANNED
from otpost_worker.simulator.rules import parse_rule
from otpost_worker.simulator.webhooks.plans import _STEP
from otpost_worker.simulator.webhooks.settings import parse_settings
from otpost_worker.simulator.webhooks.telling import _KINDS, parse_telling

PAGE: Final = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def table(first_column: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    lines = PAGE.partition(f"| {first_column} |")[2].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([a-z_0-9]+)`", cell)


def test_every_behaviour_and_every_plan_of_a_number_is_on_the_page() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    listed = {
        number: name for numbers, cell in rows for number, name in zip(numbers.split(", "), names(cell), strict=True)
    }
    assert listed == {number: name for number, (name, _) in BEHAVIOURS.items()} | {
        number: plan.name for number, (_, plan) in PLANNED.items()
    }
    assert {plan.name for _, plan in PLANNED.values()} == set(PLANS)


def test_the_page_tells_what_each_plan_reports() -> None:
    for number, _, said in (row for row in table("BB | plan")):
        steps = PLANNED[number][1].steps
        statuses = [name for name in names(said) if name in {"sent", "delivered", "read", "failed"}]
        assert set(statuses) == {step.status for step in steps}, number
        assert set(re.findall(r"\d{6}", said)) == {str(step.code) for step in steps if step.code}, number
        assert ("held_for_quality_assessment" in said) == (PLANNED[number][0].message_status != "accepted"), number


def test_every_field_of_a_step_every_setting_and_every_kind_is_on_the_page() -> None:
    assert tuple(name for row in table("field of a step") for name in names(row[0])) == _STEP
    settings = [name for row in table("setting") for name in names(row[0])]
    assert sorted(settings) == sorted([*WebhookSettings().visible()])
    kinds = {name for row in table("kind") for name in names(row[0])}
    assert kinds == {*_KINDS, "status", "not_requested", "body", "body_base64"}


def test_defaults_on_the_page_are_the_ones_that_hold() -> None:
    defaults = WebhookSettings()
    shown = {name: default for row in table("setting") for name, default in paired(row)}
    for name, default in shown.items():
        assert default == str(getattr(defaults, name)).removesuffix(".0"), name
    retry = dict(re.findall(r"`([a-z_]+)` \((\d+)\)", next(row[2] for row in table("setting") if "retry" in row[0])))
    assert {name: float(value) for name, value in retry.items()} == {
        name: getattr(defaults.retry, name) for name in ("first_s", "factor", "ceiling_s", "for_s")
    }


def paired(row: list[str]) -> list[tuple[str, str]]:
    if row[1] in {"none", "", "`delivered`"}:
        return []
    return list(zip(names(row[0]), row[1].split(", "), strict=True))


def test_the_requests_on_the_page_about_webhooks_are_taken() -> None:
    requests = re.findall(r"^curl -X (PUT|POST) \$S/(\w+) +-d '([^']+)'", PAGE, re.MULTILINE)
    bodies = {(method, name): orjson.loads(body) for method, name, body in requests}
    current = parse_settings(bodies["PUT", "webhooks"], WebhookSettings())
    assert current.plan == PLANS["read"]
    assert parse_telling(bodies["POST", "webhooks"], current, lambda _, __: None, at=0.0).retry
    rules = [orjson.loads(body) for _, name, body in requests if name == "rules"]
    plans = [plan for rule in rules if (plan := parse_rule(rule).plan) is not None]
    assert [len(plan.steps) for plan in plans] == [3]
