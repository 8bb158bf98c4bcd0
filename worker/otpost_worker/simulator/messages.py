"""Judge whether this is the send request of an authentication template, by Meta's own rules.

Pure. Written from Meta's documentation alone, so that it can judge a sender: it shares no code with one.
Where Meta documents no code for a violation, the code comes from what integrators report; every one of them
says "this message is wrong, do not send it again".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, NoReturn

import orjson

from .errors import ErrorAnswer, error_answer, invalid_parameter

MAX_CODE: Final = 15
MAX_CALLBACK: Final = 512
_NAME: Final = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(_[A-Z]{2,3})?")
_INTERNATIONAL: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_NATIONAL: Final = re.compile(r"[0-9]{6,15}")
# A scheme, a host that begins like most, or any host with a path.
_LINK: Final = re.compile(r"://|^www\.|[a-z0-9-]+\.[a-z]{2,}/", re.IGNORECASE)
# People's punctuation: Meta takes it out of a number.
_PUNCTUATION: Final = str.maketrans("", "", " -.()")

_TOP: Final = frozenset(
    {
        "messaging_product",
        "recipient_type",
        "to",
        "recipient",
        "type",
        "template",
        "context",
        "biz_opaque_callback_data",
        "recipient_identity_key_hash",
        "messaging_account_id",
        "paid_messaging_account_id",
    }
)
_TEMPLATE: Final = frozenset({"name", "language", "components"})
_LANGUAGE_KEYS: Final = frozenset({"code", "policy"})
_BODY: Final = frozenset({"type", "parameters"})
_BUTTON: Final = frozenset({"type", "sub_type", "index", "parameters"})
_PARAMETER: Final = frozenset({"type", "text"})
# What is kept of a field of a refused message: enough to recognise it, little enough to hold a million.
_GLIMPSE: Final = 600


@dataclass(frozen=True, slots=True)
class Message:
    """A send request that Meta would take.

    `to` is as sent; `wa_id` holds the digits of the number that gets the message. They are different people
    when `prepended` is true: `to` had no `+`, so the business number's own country code went in front of
    it.
    """

    to: str
    wa_id: str
    prepended: bool
    code: str
    template: str
    language: str
    callback: str | None


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What can be recognised of a message that was refused."""

    to: str | None = None
    code: str | None = None
    template: str | None = None
    language: str | None = None
    callback: str | None = None


class _ViolationError(Exception):
    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


def parse_json(content_type: str, body: bytes) -> object | ErrorAnswer:
    """The body's JSON. Without any, Meta misses the first parameter that it needs."""
    if content_type.lower() != "application/json":
        return invalid_parameter("The parameter messaging_product is required. (Content-Type: application/json)")
    try:
        payload: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return invalid_parameter("The parameter messaging_product is required. (The body is not JSON.)")
    return payload


def read_message(payload: object, country_code: str = "1") -> Message | ErrorAnswer:
    """The message in a send request, or the error Meta would answer.

    `country_code` is the business number's own, which Meta puts in front of a `to` without `+`.
    """
    try:
        return _message(payload, country_code)
    except _ViolationError as violation:
        return violation.answer


def glimpse(payload: object) -> Glimpse:
    """The recognisable fields of anything at all, for the record of a refused message."""
    template = _peek(payload, "template")
    components = _peek(template, "components")
    first = components[0] if isinstance(components, list) and components else None
    parameters = _peek(first, "parameters")
    parameter = parameters[0] if isinstance(parameters, list) and parameters else None
    return Glimpse(
        to=_text(_peek(payload, "to")),
        code=_text(_peek(parameter, "text")),
        template=_text(_peek(template, "name")),
        language=_text(_peek(_peek(template, "language"), "code")),
        callback=_text(_peek(payload, "biz_opaque_callback_data")),
    )


def _peek(holder: object, key: str) -> object:
    return holder.get(key) if isinstance(holder, dict) else None


def _text(value: object) -> str | None:
    return value[:_GLIMPSE] if isinstance(value, str) else None


def _refuse(code: int, details: str) -> NoReturn:
    raise _ViolationError(error_answer(code, details=details))


def _invalid(message: str) -> NoReturn:
    raise _ViolationError(invalid_parameter(message))


def _message(payload: object, country_code: str) -> Message:
    if not isinstance(payload, dict):
        _invalid("The parameter messaging_product is required.")
    _product(payload)
    wa_id, prepended = _recipient(payload, country_code)
    kind = payload.get("type", "text")
    if kind != "template":
        _refuse(131051, "This server takes messages of type template only.")
    _keys(payload, _TOP, "the message")
    callback = _callback(payload.get("biz_opaque_callback_data"))
    template = _object(payload.get("template"), "template", _TEMPLATE)
    name, language = _name(template), _language(template)
    return Message(payload["to"], wa_id, prepended, _code(template), name, language, callback)


def _product(payload: dict[str, object]) -> None:
    if "messaging_product" not in payload:
        _invalid("The parameter messaging_product is required.")
    if payload["messaging_product"] != "whatsapp":
        _invalid("Param messaging_product must be one of {WHATSAPP}.")


def _recipient(payload: dict[str, object], country_code: str) -> tuple[str, bool]:
    kind = payload.get("recipient_type", "individual")
    if kind == "group":
        _refuse(131009, "Authentication templates can only be sent to an individual.")
    if kind != "individual":
        _invalid("Param recipient_type must be one of {INDIVIDUAL, GROUP}.")
    to = payload.get("to")
    if to is None and "recipient" in payload:
        _refuse(131062, "Authentication templates can only be sent to a phone number.")
    if to is None:
        _invalid("The parameter to is required.")
    if not isinstance(to, str):
        _invalid("Param to must be a string.")
    return _number(to, country_code)


def _number(to: str, country_code: str) -> tuple[str, bool]:
    number = to.translate(_PUNCTUATION)
    if _INTERNATIONAL.fullmatch(number):
        return number[1:], False
    if _NATIONAL.fullmatch(number):
        return country_code + number, True
    _refuse(131009, "Parameter to is not a phone number: + and 7 to 15 digits are expected.")


def _callback(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        _invalid("Param biz_opaque_callback_data must be a string.")
    if len(value) > MAX_CALLBACK:
        _invalid(f"Param biz_opaque_callback_data must be at most {MAX_CALLBACK} characters long.")
    return value


def _name(template: dict[str, object]) -> str:
    name = template.get("name")
    if name is None:
        _refuse(131008, "template['name'] is missing.")
    if not isinstance(name, str):
        _invalid("Param template['name'] must be a string.")
    if not _NAME.fullmatch(name):
        _refuse(132001, "No template can have this name: a-z, 0-9 and _ are expected, 1 to 512 of them.")
    return name


def _language(template: dict[str, object]) -> str:
    language = _object(template.get("language"), "template['language']", _LANGUAGE_KEYS)
    if language.get("policy", "deterministic") != "deterministic":
        _invalid("Param template['language']['policy'] must be one of {DETERMINISTIC}.")
    code = language.get("code")
    if code is None:
        _refuse(131008, "template['language']['code'] is missing.")
    if not isinstance(code, str):
        _invalid("Param template['language']['code'] must be a string.")
    if not _LANGUAGE.fullmatch(code):
        _refuse(132001, "The template does not exist in this language; codes look like en or en_US.")
    return code


def _code(template: dict[str, object]) -> str:
    body, button = _components(template.get("components"))
    in_body = _single_text(body, "body")
    _sound(in_body)
    if button is None:
        _refuse(131008, "buttons: Button at index 0 of type Url requires a parameter.")
    _check_button(button)
    in_button = _single_text(button, "button")
    if in_button != in_body:
        _refuse(132018, "The code in the button is not the code in the body.")
    return in_body


def _components(value: object) -> tuple[dict[str, object], dict[str, object] | None]:
    if value is None:
        value = []
    if not isinstance(value, list):
        _invalid("Param template['components'] must be an array.")
    found: dict[str, dict[str, object]] = {}
    for position, component in enumerate(value):
        where = f"template['components'][{position}]"
        kind = component.get("type") if isinstance(component, dict) else None
        if kind == "header":
            _refuse(132018, "header: an authentication template has no header parameters.")
        allowed = _BUTTON if kind == "button" else _BODY
        _object(component, where, allowed if isinstance(kind, str) else _BUTTON)
        if not isinstance(kind, str) or kind not in ("body", "button"):
            _invalid(f"Param {where}['type'] must be one of {{HEADER, BODY, BUTTON}}.")
        if kind in found:
            _refuse(132018, f"{kind}: the template has only one.")
        found[kind] = component
    if "body" not in found:
        _refuse(132000, "body: number of localizable_params (0) does not match the expected number of params (1)")
    return found["body"], found.get("button")


def _single_text(component: dict[str, object], what: str) -> str:
    parameters = component.get("parameters")
    if parameters is None:
        parameters = []
    if not isinstance(parameters, list):
        _invalid(f"Param {what}['parameters'] must be an array.")
    if len(parameters) != 1:
        _refuse(
            132000,
            f"{what}: number of localizable_params ({len(parameters)}) does not match the expected "
            "number of params (1)",
        )
    parameter = parameters[0]
    kind = parameter.get("type") if isinstance(parameter, dict) else None
    if isinstance(kind, str) and kind != "text":
        _refuse(132012, f"{what}: Format mismatch, expected TEXT.")
    parameter = _object(parameter, f"{what}['parameters'][0]", _PARAMETER)
    if kind is None:
        _refuse(131008, f"{what}: the parameter's type is missing.")
    if not isinstance(kind, str):
        _invalid(f"Param {what}['parameters'][0]['type'] must be a string.")
    text = parameter.get("text")
    if text is None or text == "":
        _refuse(131008, "Parameter of type text is missing text value")
    if not isinstance(text, str):
        _invalid(f"Param {what}['parameters'][0]['text'] must be a string.")
    return text


def _sound(code: str) -> None:
    if len(code) > MAX_CODE:
        _refuse(132018, f"The parameter at index 0 exceeds the AUTHENTICATION maximum of {MAX_CODE} characters.")
    if "\n" in code or "\r" in code or "\t" in code or "    " in code:
        _refuse(132018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces")
    if _LINK.search(code):
        _refuse(132018, "The parameter at index 0 holds a link.")
    # "So" is the category of nearly all emoji; the rest of them only follow one of these.
    if not code.isascii() and any(unicodedata.category(character) == "So" for character in code):
        _refuse(132018, "The parameter at index 0 holds an emoji.")


def _check_button(button: dict[str, object]) -> None:
    sub_type, index = button.get("sub_type"), button.get("index")
    if sub_type is None or index is None:
        _refuse(131008, "button: sub_type and index are required.")
    if sub_type != "url":
        _refuse(132018, "button: the template's button is of type url.")
    if isinstance(index, bool) or not isinstance(index, str | int):
        _invalid("Param button['index'] must be a string.")
    if index not in ("0", 0):
        _refuse(132018, "button: the template has one button, at index 0.")


def _object(value: object, where: str, allowed: frozenset[str]) -> dict[str, object]:
    if value is None:
        _refuse(131008, f"{where} is missing.")
    if not isinstance(value, dict):
        _invalid(f"Param {where} must be a JSON object.")
    _keys(value, allowed, where)
    return value


def _keys(value: dict[str, object], allowed: frozenset[str], where: str) -> None:
    # A misspelled optional field must not vanish in silence.
    if not value.keys() <= allowed:
        stranger = min(value.keys() - allowed)
        _invalid(f'Unexpected key "{stranger[:60]}" on {where}.')
