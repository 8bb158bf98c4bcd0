"""The worker's keys: they open the codes that producers sealed, and the first of them seals what is buried."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from otpost.job import is_code
from otpost.sealing import Opener
from otpost_worker.burial import covered, covered_whole
from otpost_worker.outcome import Error, Kind

if TYPE_CHECKING:
    from otpost.job import OtpJob
    from otpost.sealing import PrivateKey
    from otpost_worker.envelope import Envelope

NO_KEY: Final = Error(
    Kind.NO_KEY,
    title="Sealed code",
    detail="no key of this worker opens sealed_code: add the private one to OTPOST_PRIVATE_KEYS, then replay",
)
NO_CODE: Final = Error(
    Kind.INVALID_JOB,
    title="The job breaks the contract",
    detail="sealed_code: what is sealed in it is no code: 1 to 15 printable ASCII characters without spaces, no link",
)


class Keyring:
    """Implements ``ports.Codes`` with at least one key."""

    def __init__(self, keys: tuple[PrivateKey, ...]) -> None:
        self._opener = Opener(keys)
        self._seal = keys[0].public.seal
        self._key = keys[0].raw

    def read(self, job: OtpJob) -> str | Error:
        """See ``ports.Codes``."""
        if job.code is not None:
            return job.code
        assert job.sealed_code is not None  # noqa: S101 - a job has exactly one of the two
        opened = self._opener.open(job.sealed_code)
        if opened is None:
            return NO_KEY
        code = opened.decode("ascii", errors="replace")
        return code if is_code(code) else NO_CODE

    def cover(self, envelope: Envelope) -> Envelope:
        """See ``ports.Codes``."""
        return covered(envelope, self._seal)

    def cover_whole(self, envelope: Envelope) -> Envelope:
        """See ``ports.Codes``."""
        return covered_whole(envelope, self._seal)

    def fingerprint(self, body: bytes) -> str:
        """See ``ports.Codes``."""
        return blake2b(body, key=self._key, person=b"otpost body", digest_size=16).hexdigest()
