"""The JSON Schema (2020-12) of an item of a type, as REST writes it."""

from collections.abc import Callable, Sequence
from typing import Any

from libs.patterns import ecma_pattern
from services.content.fields import MAX_ITEMS, MAX_TEXT
from services.content.rich_text import schemas as rich_texts
from thmnayah.content.v1.types_pb2 import ContentType, Field, Kind

Json = dict[str, Any]

_LOCALE = "^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$"


def schema(kind: ContentType) -> Json:
    """Describes the items of a type, custom fields included.

    A field that publishing asks for is marked `x-requiredToPublish`: a draft may lack it.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_described(kind.id, kind.name, kind.description),
        "type": "object",
        "required": ["type", "title"],
        "properties": {
            "type": {"const": kind.id},
            "title": _by_locale({"type": "string", "minLength": 1, "maxLength": 300}) | {"minProperties": 1},
            "description": _by_locale({"type": "string", "maxLength": 5000}),
            "body": _by_locale({"type": "string", "maxLength": 200_000}),
            "fields": _object({field.name: _field(field) for field in kind.fields}),
        },
    }


def _field(field: Field) -> Json:
    value = _value(field.kind)
    if field.localized:
        value = _object({"localized": _object({"values": _by_locale(value)})}, ["localized"])
    described = _described(field.name, field.title, field.help)
    return {**described, **({"x-requiredToPublish": True} if field.required else {}), **value}


def _value(kind: Kind) -> Json:
    name = str(kind.WhichOneof("kind"))
    arm, describe = _KINDS[name]
    return _object({arm: describe(getattr(kind, name))}, [arm])


def _text(rules: Kind.Text) -> Json:
    pattern = {"pattern": f"^(?:{ecma_pattern(rules.pattern)})$"} if rules.pattern else {}
    return {"type": "string", "minLength": rules.min_length, "maxLength": rules.max_length or MAX_TEXT, **pattern}


def _number(rules: Kind.Number) -> Json:
    bounds = {}
    if rules.HasField("min"):
        bounds["minimum"] = rules.min
    if rules.HasField("max"):
        bounds["maximum"] = rules.max
    return {"type": "integer" if rules.whole else "number", **bounds}


def _reference(rules: Kind.Reference) -> Json:
    types = {"description": f"The id of an item of the type {' or '.join(rules.types)}."} if rules.types else {}
    return {"type": "string", "format": "uuid", **types}


def _list(rules: Kind.List) -> Json:
    bounds = {"minItems": rules.min_items, "maxItems": rules.max_items or MAX_ITEMS}
    return _object({"values": {"type": "array", "items": _value(rules.item), **bounds}})


def _group(rules: Kind.Group) -> Json:
    required = [field.name for field in rules.fields if field.required]
    return _object({"values": _object({field.name: _field(field) for field in rules.fields}, required)})


# For each kind, the name of `Value`'s field in JSON and what that holds.
_KINDS: dict[str, tuple[str, Callable[[Any], Json]]] = {
    "text": ("text", _text),
    "rich_text": ("richText", rich_texts.schema),
    "number": ("number", _number),
    "boolean": ("boolean", lambda _: {"type": "boolean"}),
    "date_time": ("dateTime", lambda _: {"type": "string", "format": "date-time"}),
    "duration": ("duration", lambda _: {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?s$"}),
    "enum": ("enumValue", lambda rules: {"enum": [option.value for option in rules.options]}),
    "json": ("json", lambda _: {}),
    "reference": ("reference", _reference),
    "list": ("list", _list),
    "group": ("group", _group),
}


def _object(properties: Json, required: Sequence[str] = ()) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def _by_locale(value: Json) -> Json:
    return {"type": "object", "propertyNames": {"pattern": _LOCALE}, "additionalProperties": value}


def _described(name: str, title: Any, description: Any) -> Json:
    """The words in every locale: JSON Schema has a place for one of them."""
    said: Json = {"title": title.get("en") or next(iter(title.values()), name)}
    if description:
        said["description"] = description.get("en") or next(iter(description.values()))
    if title:
        said["x-title"] = dict(title)
    if description:
        said["x-description"] = dict(description)
    return said
