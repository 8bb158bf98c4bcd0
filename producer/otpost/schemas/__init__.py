"""What travels over the broker, described for other languages: JSON Schema and AsyncAPI.

The schemas come from the models that read and write the messages; the files in the repository's folder
``schemas`` are copies of what ``otpost schema`` prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpost.schemas.asyncapi import asyncapi
from otpost.schemas.messages import event_schema, job_schema, result_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILES: Final[Mapping[str, str]] = {
    "job": "otpost.job.v1.schema.json",
    "result": "otpost.result.v1.schema.json",
    "event": "otpost.event.v1.schema.json",
    "asyncapi": "asyncapi.json",
}

_DOCUMENTS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "job": job_schema,
    "result": result_schema,
    "event": event_schema,
    "asyncapi": asyncapi,
}


def document(name: str) -> dict[str, Any]:
    """Write the document of that name, one of ``FILES``."""
    return _DOCUMENTS[name]()
