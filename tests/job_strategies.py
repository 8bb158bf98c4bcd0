"""What hypothesis needs to make up jobs: fields that the contract allows, and how hard the properties are tried."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# A busy machine makes examples slow, never wrong.
PROPERTY: Final = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

MOMENTS: Final = st.datetimes(datetime(2001, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds carry no zone
DIGITS: Final = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
IDS: Final = st.from_regex(r"[A-Za-z0-9_.:\-]{1,64}", fullmatch=True)
TEMPLATES: Final = st.from_regex(r"[a-z0-9_]{1,512}", fullmatch=True)
LANGUAGES: Final = st.sampled_from(["en", "en_US", "de", "pt_BR", "zh_CN", "fil", "prs_AF"])
PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
# Links as Meta knows them, and as people type them: with a scheme, or a host and a path.
_LINKS: Final = re.compile(r"://|www[.]|wa[.]me|[a-z0-9-][.][a-z][a-z]+/")
CODES: Final = st.text(PRINTABLE, min_size=1, max_size=15).filter(lambda code: not _LINKS.search(code.lower()))
# Long and unlike anything that our own texts say, so that they do not hold it by chance.
SECRETS: Final = st.from_regex(r"[A-Z]{5}[0-9]{5}[a-z]{5}", fullmatch=True)

_SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=20)
REFS: Final = st.dictionaries(
    st.text(max_size=10), _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), _SCALARS)
).filter(lambda ref: len(orjson.dumps(ref)) <= 1024)


@st.composite
def valid_fields(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the arguments of a job that keeps every rule of the contract."""
    created_at = draw(MOMENTS)
    lifetime_s = draw(st.floats(1, 5399))
    fields: dict[str, Any] = {"to": "+" + draw(DIGITS), "code": draw(CODES), "created_at": created_at}
    optional = {"id": IDS, "template": TEMPLATES, "language": LANGUAGES, "ref": REFS, "version": st.just(1)}
    fields |= draw(st.fixed_dictionaries({}, optional=optional))
    end = draw(st.sampled_from(["expires_at", "ttl_s", "neither"]))
    if end == "expires_at":
        fields["expires_at"] = created_at + timedelta(seconds=lifetime_s)
    elif end == "ttl_s":
        fields["ttl_s"] = lifetime_s
    if draw(st.booleans()):
        # Every job lives for longer than this.
        fields["not_before"] = created_at + timedelta(seconds=0.5)
    return fields
