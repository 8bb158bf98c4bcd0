"""Events that concern a sender and not one job (contract, section 3)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from otpost.errors import OtpostError
from otpost.result import ResultError


class EventName(StrEnum):
    """What happened to a sender."""

    HALTED = "halted"
    RESUMED = "resumed"
    SLOWED = "slowed"
    CATEGORY_CHANGED = "category_changed"
    FALLBACK = "fallback"
    CODE_NOT_REQUESTED = "code_not_requested"
    QUALITY_CHANGED = "quality_changed"
    NUMBER_CHANGED = "number_changed"
    ACCOUNT_CHANGED = "account_changed"


class UnreadableEvent(OtpostError):
    """The message is no event of a version that is known here."""


class SenderEvent(BaseModel):
    """One event in the life of a sender, published to ``otpost.results`` under ``routing_key``.

    Like a result it may come twice after a crash, with the same *event_id*, which is the AMQP ``message_id`` too.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: str = Field(description="The same for a copy of the same event: forget what you have seen already.")
    sender: str = Field(description="The sender that this is about.")
    name: EventName = Field(description="What happened to it.")
    at: Annotated[datetime, WithJsonSchema({"type": "string", "format": "date-time", "pattern": "Z$"})] = Field(
        description="When it happened, in UTC."
    )
    template: str | None = Field(default=None, description="The template, where only it is concerned.")
    language: str | None = Field(default=None, description="The template's language.")
    job_id: str | None = Field(default=None, description="The job whose code was not requested.")
    detail: str | None = Field(default=None, description="What an operator should know of it.")
    error: ResultError | None = Field(default=None, description="What the provider said, where that was the cause.")

    @property
    def routing_key(self) -> str:
        """Where it goes in the exchange of results: ``<sender>.event.<name>``."""
        return f"{self.sender}.event.{self.name}"

    def to_json(self) -> bytes:
        """Encode the event as it travels: UTF-8 JSON, every field present."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_UTC_Z)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Decode an event; fields that are not known yet are ignored.

        :raises UnreadableEvent: the body is no event.
        """
        try:
            return cls.model_validate(orjson.loads(body))
        except (orjson.JSONDecodeError, ValidationError):
            reason = "the message is no otpost.event.v1: is something else bound to this queue or stream?"
        raise UnreadableEvent(reason)
