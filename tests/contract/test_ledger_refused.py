"""What every ledger does with bodies that are no jobs: each ends its own run, and leaves others of its id alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from known_states import claim_request, claimed, end_step
from ledger_entries import ACCEPTED, EXPIRED, FAILED, REFUSED, step_of, wish
from otpost_worker.envelope import Step
from ports_in_memory import envelope, job_body

if TYPE_CHECKING:
    from ledger_implementations import OpenLedger
    from otpost_worker.ports import Entry


async def test_a_body_that_is_no_job_ends_its_run_and_gets_the_same_end_again(ledger: OpenLedger) -> None:
    invalid = wish(end=True)
    assert step_of(await ledger.refuse(invalid, end_step(1, "failed"))) == end_step(1, "failed")
    assert step_of(await ledger.refuse(invalid, end_step(1, "failed"))) == end_step(1, "failed")
    assert step_of(await ledger.claim(claim_request())) == end_step(1, "failed")


@pytest.mark.parametrize("letter", ["not noted", "noted"])
async def test_a_body_whose_end_was_told_is_known_by_its_fingerprint(ledger: OpenLedger, letter: str) -> None:
    failed = replace(end_step(1, "failed"), fingerprint="one")
    await ledger.refuse(wish(end=True), failed)
    if letter == "noted":
        await ledger.note_buried("job-1", 1)
    assert step_of(await ledger.refuse(wish(end=True), failed)) == (Step(failed.event) if letter == "noted" else failed)
    another = replace(wish(end=True), envelope=envelope(job_body(cod="typing error")))
    assert await ledger.refuse(another, replace(failed, fingerprint="another")) is None


@pytest.mark.parametrize("how", ["refused", "concluded", "failed", "expired", "buried"])
async def test_an_end_is_given_again_to_the_very_body_that_had_it_and_to_no_other_of_its_id(
    ledger: OpenLedger, how: str
) -> None:
    failed = end_step(1, "failed")
    if how == "failed":
        await ledger.record(await claimed(ledger), FAILED)
    elif how == "refused":
        await ledger.refuse(wish(end=True), failed)
    else:
        await ledger.conclude(wish(end=True), EXPIRED if how == "expired" else failed)
    if how == "buried":
        await ledger.note_buried("job-1", 1)
    # A job that has ended leaves no fingerprint: once its body is gone, nothing tells that it was this one.
    its_own = await ledger.refuse(wish(end=True), failed)
    assert (its_own and its_own.step) == (None if how in ("expired", "buried") else failed)
    assert its_own is None or its_own.envelope.body == job_body()
    another = replace(wish(end=True), envelope=envelope(job_body(cod="typing error")))
    assert await ledger.refuse(another, failed) is None


async def test_a_replayed_body_that_is_no_job_does_not_end_a_job_that_reached_its_recipient(ledger: OpenLedger) -> None:
    ticket = await claimed(ledger)
    await ledger.record(ticket, ACCEPTED)
    assert await ledger.refuse(wish(run=2, end=True), end_step(2, "failed")) is None
    assert step_of(await ledger.claim(claim_request(2))) == ACCEPTED.step


@pytest.mark.parametrize("entry", [None, REFUSED, ACCEPTED, FAILED], ids=["claimed", "refused", "accepted", "failed"])
async def test_a_body_that_is_no_job_leaves_another_job_of_its_id_alone(
    ledger: OpenLedger, entry: Entry | None
) -> None:
    ticket = await claimed(ledger)
    if entry is not None:
        await ledger.record(ticket, entry)
    another = replace(wish(end=True), envelope=envelope(job_body(cod="typing error")))
    assert await ledger.refuse(another, end_step(1, "failed")) is None
    if entry is not None:
        assert step_of(await ledger.claim(claim_request())) == entry.step
