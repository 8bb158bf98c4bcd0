"""Messages as they look on the broker. No number here can be anybody's, and no code is in use."""

from __future__ import annotations

from typing import Any, Final

SMALLEST_JOB: Final[dict[str, Any]] = {
    "id": "login-7261",
    "to": "+12015553931",
    "code": "493817",
    "expires_at": "2026-01-31T12:05:00Z",
}

JOB: Final[dict[str, Any]] = {
    "id": "0199f3a2-7c1e-7d3a-9b57-3f0c5e8a1d42",
    "to": "+1 (201) 555-3931",
    "code": "493817",
    "template": "verification_code",
    "language": "en_US",
    "created_at": "2026-01-31T12:00:00Z",
    "ttl_s": 300,
    "not_before": "2026-01-31T12:00:02Z",
    "ref": {"order": 7261},
    "version": 1,
}

ACCEPTED: Final[dict[str, Any]] = {
    "event_id": "login-7261/1/1/accepted",
    "job_id": "login-7261",
    "sender": "default",
    "status": "accepted",
    "run": 1,
    "attempt": 1,
    "at": "2026-01-31T12:00:00.412Z",
    "provider": "cloud_api",
    "provider_message_id": "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI1",
    "to": "12*******31",
    "ref": None,
    "error": None,
    "retry_in_s": None,
    "latency_ms": 412,
}

RETRYING: Final[dict[str, Any]] = ACCEPTED | {
    "event_id": "login-7261/1/1/retrying",
    "status": "retrying",
    "provider_message_id": None,
    "ref": {"order": 7261},
    "error": {
        "kind": "throughput",
        "code": 130429,
        "title": "Rate limit hit",
        "detail": "Message failed to send because there were too many messages sent from this phone number.",
        "http_status": 400,
        "provider_trace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
    },
    "retry_in_s": 0.75,
}

FAILED: Final[dict[str, Any]] = ACCEPTED | {
    "event_id": "login-7261/1/1/failed",
    "status": "failed",
    "provider": None,
    "provider_message_id": None,
    "to": None,
    "error": {
        "kind": "invalid_job",
        "code": None,
        "title": "The job breaks the contract",
        "detail": "to: must be one phone number with its country code, 7 to 15 digits, such as +12015553931",
        "http_status": None,
        "provider_trace_id": None,
    },
    "latency_ms": None,
}

HALTED: Final[dict[str, Any]] = {
    "event_id": "default/halted/0199f3a2-7c1e-7d3a-9b57-3f0c5e8a1d42",
    "sender": "default",
    "name": "halted",
    "at": "2026-01-31T12:00:00.412Z",
    "template": None,
    "language": None,
    "job_id": None,
    "detail": "its jobs wait on the ladder; a request goes out now and then to see whether it works again",
    "error": {
        "kind": "sender_halted",
        "code": 190,
        "title": "Invalid OAuth access token",
        "detail": None,
        "http_status": 401,
        "provider_trace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
    },
}
