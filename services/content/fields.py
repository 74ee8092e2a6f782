"""Values of custom fields: what a type lets them be, how they are stored, and how callers see them.

They are stored by the stable id of their field, then by locale, with "" for a field that has none:
`{"f1": {"": {"number": 3.0}}, "f2": {"ar": {"text": "…"}}}`. So a field keeps its values under a new
name, and when it becomes localized or ceases to be.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from google.protobuf import json_format

from libs import patterns, text
from libs.errors import InvalidArgument
from services.content.rich_text import values as rich_texts
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.types_pb2 import ContentType, Field, Kind
from thmnayah.content.v1.values_pb2 import Value

# One stored value: what `Value` would hold, under its name there, with the ids of fields in groups.
Json: TypeAlias = dict[str, Any]
# What an item holds: by field id and locale.
Held: TypeAlias = dict[str, dict[str, Json]]
T = TypeVar("T")

MAX_TEXT = 200_000
MAX_ITEMS = 1000
MAX_JSON_BYTES = 64 * 1024

_TEXTS = {"text", "enum_value"}
_PLAIN = {"number", "boolean", "reference"} | _TEXTS
_TIMES = {"date_time", "duration"}


@dataclass
class Findings:
    """What a check of values found: what is wrong, and what only the database can judge."""

    violations: dict[str, str] = field(default_factory=dict)
    references: dict[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    """For each path, the id it refers to and the types that it may have, any when there is none."""


def put(
    kind: ContentType, held: Held, given: Mapping[str, Value], paths: Iterable[str], *, locales: Iterable[str]
) -> tuple[Held, Findings]:
    """What an item holds once the values given are set; a path without a value is cleared.

    Args:
        paths: `duration` sets a field, `synopsis.ar` one locale of it.
        locales: those the item is in.

    Raises:
        InvalidArgument: a path or a value is not what the type lets it be.
    """
    after = {each: dict(values) for each, values in held.items()}
    findings = Findings()
    for path in paths:
        name, _, locale = path.partition(".")
        defined = find(kind, name)
        at = f"content.fields.{path}"
        if defined is None:
            findings.violations[at] = f"is not a field of the type {kind.id}" if kind.id else "has no type to define it"
        elif locale and not defined.localized:
            findings.violations[at] = "has no locales"
        else:
            value = given.get(defined.name)
            values = _values(defined, value, f"content.fields.{defined.name}", findings)
            if locale:
                others = _spread(after.get(defined.id, {}), locales)
                others.pop(locale, None)
                values = {**others, **{each: one for each, one in values.items() if each == locale}}
            elif values and not defined.localized:
                values = {**after.get(defined.id, {}), **values}  # the locales' own, should it be localized again
            after[defined.id] = values
    if findings.violations:
        raise InvalidArgument(findings.violations)
    return {each: values for each, values in after.items() if values}, findings


def defaults(kind: ContentType, held: Held, *, locales: Iterable[str]) -> Held:
    """What a new item holds, with the type's own values where it was given none."""
    added = {
        each.id: dict.fromkeys(locales if each.localized else [""], _json(each.default_value, each.kind))
        for each in kind.fields
        if each.HasField("default_value") and each.id not in held
    }
    return {**held, **added}


def given_paths(given: Mapping[str, Value]) -> list[str]:
    """The paths that hold a value, locale by locale."""
    return [
        f"{name}.{locale}" if locale else name
        for name, value in given.items()
        for locale in (value.localized.values if value.WhichOneof("kind") == "localized" else [""])
    ]


def used_locales(given: Mapping[str, Value]) -> dict[str, str]:
    """For each locale that values are given in, the name of a field that is."""
    return {locale: f"fields.{name}" for name, value in given.items() for locale in value.localized.values}


def as_stored(held: Held) -> dict[str, Value]:
    """The same as values by the fields' ids, each by its locales."""
    return {
        each: Value(localized=Value.Localized(values={locale: _value(one) for locale, one in sorted(values.items())}))
        for each, values in held.items()
    }


def show(content: Content, kind: ContentType) -> Content:
    """Put the fields of an item that stand as they are stored by their names of today; returns the item."""
    if content.fields:
        stored = Content()
        stored.fields.MergeFrom(content.fields)
        content.ClearField("fields")
        held = {each: value.localized.values for each, value in stored.fields.items()}
        _show(content, kind, held, lambda value: value)
    return content


def show_held(content: Content, kind: ContentType, held: Held) -> Content:
    """Put fields of an item that has none yet by their names of today; returns the item."""
    if held:
        _show(content, kind, held, _value)
    return content


def _show(content: Content, kind: ContentType, held: Mapping[str, Mapping[str, T]], made: Callable[[T], Value]) -> None:
    """Args:
    held: stored values by field id and locale.
    made: makes a message of one.
    """
    for defined in kind.fields:
        values = held.get(defined.id)
        if not values:
            continue
        if not defined.localized:
            content.fields[defined.name].CopyFrom(_named(made(values[_common(values)]), defined.kind))
        elif spread := _spread(values, content.title):
            shown = content.fields[defined.name].localized.values
            for locale, value in spread.items():
                shown[locale].CopyFrom(_named(made(value), defined.kind))
    if content.translations:
        _name_translations(content, kind)


def resolve(content: Content, chain: Sequence[str]) -> dict[str, str]:
    """Leave of each localized field, under the first locale of the chain, the value of the first that has one.

    Returns:
        For each field that has one, the locale that its value is in.
    """
    found = {}
    for name, value in list(content.fields.items()):
        if value.WhichOneof("kind") != "localized":
            continue
        values = value.localized.values
        locale = next((each for each in chain if each in values), None)
        del content.fields[name]
        if locale is not None:
            content.fields[name].localized.values[chain[0]].CopyFrom(values[locale])
            found[name] = locale
    return found


def publish(kind: ContentType, held: Held, shown: Content, locales: Iterable[str]) -> dict[str, str]:
    """Make what readers see of the fields, as it is stored, what editors see in these locales.

    Returns:
        For each path that keeps the item from being published, why.
    """
    findings = Findings()
    for gone in shown.fields.keys() - {each.id for each in kind.fields}:
        del shown.fields[gone]
    for defined in kind.fields:
        values = held.get(defined.id, {})
        seen = shown.fields[defined.id].localized.values
        wanted = _spread(values, locales) if defined.localized else dict(values)
        if not defined.localized and values:
            wanted[""] = values[_common(values)]
        for locale in locales if defined.localized else [*locales, ""]:
            at = f"fields.{defined.name}" + (f".{locale}" if defined.localized else "")
            if locale in wanted:
                seen[locale].CopyFrom(_value(wanted[locale]))
            else:
                seen.pop(locale, None)
            if defined.localized or not locale:
                if defined.required and _is_empty(wanted.get(locale, {})):
                    findings.violations[at] = "is required to publish"
                elif locale in wanted:
                    check(defined.kind, wanted[locale], at, findings)
        if not seen:
            del shown.fields[defined.id]
    return findings.violations


def unpublish(shown: Content, locales: Iterable[str]) -> None:
    """Take these locales out of what readers see of the fields."""
    for value in shown.fields.values():
        for locale in locales:
            value.localized.values.pop(locale, None)


def check(kind: Kind, value: Json, at: str, findings: Findings) -> None:
    """Find what a stored value holds that its kind does not let it."""
    name = str(kind.WhichOneof("kind"))
    arm = "enum_value" if name == "enum" else name
    if arm not in value:
        findings.violations[at] = f"must be {_WORDS[name]}"
        return
    held = value[arm]
    if name == "rich_text":
        rich_text = rich_texts.parse(held)
        findings.violations |= rich_texts.violations(kind.rich_text, rich_text, at)
        findings.references |= {f"{at}.{path}": (each, ()) for path, each in rich_texts.references(rich_text)}
    elif name == "reference":
        findings.references[at] = (held, kind.reference.types)
    elif name == "list":
        _check_list(kind.list, held, at, findings)
    elif name == "group":
        _check_group(kind.group, held, at, findings)
    elif name in _CHECKS and (wrong := _CHECKS[name](kind, held)):
        findings.violations[at] = wrong


def check_default(defined: Field, at: str, findings: Findings) -> None:
    """Find what is wrong with the value that new items get."""
    check(defined.kind, _json(defined.default_value, defined.kind), at, findings)


def snake(name: str) -> str:
    """The name as JSON's field masks have it on their way: `episodeNumber` → `episode_number`."""
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


_WORDS = {
    "text": "text",
    "rich_text": "rich text",
    "number": "a number",
    "boolean": "true or false",
    "date_time": "a date-time",
    "duration": "a duration",
    "enum": "one of the listed values, as enumValue",
    "json": "JSON",
    "reference": "a reference",
    "list": "a list",
    "group": "a group",
}


def find(kind: ContentType, name: str) -> Field | None:
    """The field of a type that has a name, perhaps as a field mask of JSON has it on its way."""
    exact = next((each for each in kind.fields if each.name == name), None)
    return exact or next((each for each in kind.fields if snake(each.name) == name), None)


def stored_paths(kind: ContentType, by_path: Mapping[str, T]) -> dict[str, T]:
    """What is known by paths with the names of fields, by those with their ids: `fields.f1.ar`."""
    ids = {f"fields.{each.name}": f"fields.{each.id}" for each in kind.fields}
    split = ((path.rpartition("."), one) for path, one in by_path.items())
    return {f"{ids.get(field, field)}.{locale}": one for (field, _, locale), one in split}


def _name_translations(content: Content, kind: ContentType) -> None:
    """Put what is told of the translations of fields by their names of today; those without locales have none."""
    names = {f"fields.{each.id}": f"fields.{each.name}" for each in kind.fields if each.localized}
    for path in [each for each in content.translations if each.startswith("fields.")]:
        field, _, locale = path.rpartition(".")
        told = Content.Translation()
        told.CopyFrom(content.translations[path])
        del content.translations[path]
        if field in names:
            content.translations[f"{names[field]}.{locale}"].CopyFrom(told)
    late = {path.rpartition(".")[2] for path, told in content.translations.items() if told.stale}
    for locale, status in content.locales.items():
        status.stale = locale in late


def _values(defined: Field, value: Value | None, at: str, findings: Findings) -> dict[str, Json]:
    """A value given, by locale."""
    if value is None:
        return {}
    if not defined.localized:
        stored = {"": _json(value, defined.kind)}
        check(defined.kind, stored[""], at, findings)
        return stored
    if value.WhichOneof("kind") != "localized":
        findings.violations[at] = "needs a value for each locale, as localized"
        return {}
    stored = {locale: _json(one, defined.kind, locale) for locale, one in value.localized.values.items()}
    for locale, one in stored.items():
        check(defined.kind, one, f"{at}.{locale}", findings)
    return stored


def _spread(values: Mapping[str, Any], locales: Iterable[str]) -> dict[str, Any]:
    """Values by locale alone: what was held without one is that of each locale without its own."""
    own = {locale: value for locale, value in values.items() if locale}
    return {**dict.fromkeys(locales, values[""]), **own} if "" in values else own


def _common(values: Mapping[str, object]) -> str:
    """The locale whose value stands for a field without locales."""
    return "" if "" in values else min(values)


def _is_empty(value: Json) -> bool:
    if "rich_text" in value:
        return rich_texts.is_blank(rich_texts.parse(value["rich_text"]))
    return not value or text.is_blank(value.get("text", "x")) or value.get("list") == []


def _json(value: Value, kind: Kind, locale: str = "") -> Json:
    """A value as it is stored; the name of an unknown field of a group follows a "?"."""
    name = str(value.WhichOneof("kind"))
    held = getattr(value, name)
    if name in _TEXTS:
        return {name: text.nfc(held)}
    if name in _PLAIN:
        return {name: held}
    if name in _TIMES:
        try:
            return {name: held.ToJsonString()}
        except ValueError:  # beyond what its type can say
            return {}
    if name == "json":
        return {name: json.loads(text.nfc(json.dumps(json_format.MessageToDict(held), ensure_ascii=False)))}
    if name == "rich_text":
        return {name: rich_texts.stored(held, locale)}
    if name == "list":
        return {name: [_json(each, kind.list.item, locale) for each in held.values]}
    if name == "group":
        known = {each.name: each for each in kind.group.fields}
        return {
            name: {
                known[each].id if each in known else f"?{each}": _json(
                    one, known[each].kind if each in known else kind, locale
                )
                for each, one in held.values.items()
            }
        }
    return {}


def _value(stored: Json) -> Value:
    """A stored value; fields of groups have their ids."""
    ((name, held),) = stored.items()
    value = Value()
    if name in _PLAIN:
        setattr(value, name, held)
    elif name in _TIMES:
        getattr(value, name).FromJsonString(held)
    elif name == "json":
        json_format.ParseDict(held, value.json)
    elif name == "rich_text":
        value.rich_text.CopyFrom(rich_texts.parse(held))
    elif name == "list":
        value.list.SetInParent()
        value.list.values.extend(map(_value, held))
    elif name == "group":
        value.group.SetInParent()
        for each, one in held.items():
            value.group.values[each].CopyFrom(_value(one))
    return value


def _named(value: Value, kind: Kind) -> Value:
    """A stored value with the names that fields of groups have today."""
    name = value.WhichOneof("kind")
    if name != kind.WhichOneof("kind"):
        return value
    if name == "list" and kind.list.item.WhichOneof("kind") in ("list", "group"):
        return Value(list=Value.List(values=[_named(each, kind.list.item) for each in value.list.values]))
    if name == "group":
        held = {
            each.name: _named(value.group.values[each.id], each.kind)
            for each in kind.group.fields
            if each.id in value.group.values
        }
        return Value(group=Value.Group(values=held))
    return value


def _check_text(kind: Kind, held: str) -> str:
    rules = kind.text
    most = rules.max_length or MAX_TEXT
    if not rules.min_length <= len(held) <= most:
        return f"must have {rules.min_length} to {most} characters"
    if rules.pattern and not patterns.matches(rules.pattern, held):
        return f"must match {rules.pattern}"
    return ""


def _check_number(kind: Kind, held: float) -> str:
    rules = kind.number
    if rules.HasField("min") and held < rules.min:
        return f"must be at least {rules.min:g}"
    if rules.HasField("max") and held > rules.max:
        return f"must be at most {rules.max:g}"
    return "must be whole" if rules.whole and held != int(held) else ""


def _check_enum(kind: Kind, held: str) -> str:
    if held in {option.value for option in kind.enum.options}:
        return ""
    return f"must be {_WORDS['enum']}"


def _check_duration(_kind: Kind, held: str) -> str:
    return "must not be negative" if held.startswith("-") else ""


def _check_json(_kind: Kind, held: object) -> str:
    written = json.dumps(held, ensure_ascii=False)
    if len(written.encode()) > MAX_JSON_BYTES:
        return f"must be at most {MAX_JSON_BYTES // 1024} KiB of JSON"
    return "must not hold NUL characters" if "\\u0000" in written else ""


_CHECKS: dict[str, Callable[[Kind, Any], str]] = {
    "text": _check_text,
    "number": _check_number,
    "enum": _check_enum,
    "duration": _check_duration,
    "json": _check_json,
}


def _check_list(rules: Kind.List, held: Sequence[Json], at: str, findings: Findings) -> None:
    most = rules.max_items or MAX_ITEMS
    if not rules.min_items <= len(held) <= most:
        findings.violations[at] = f"must have {rules.min_items} to {most} items"
    for number, one in enumerate(held):
        check(rules.item, one, f"{at}[{number}]", findings)


def _check_group(rules: Kind.Group, held: Mapping[str, Json], at: str, findings: Findings) -> None:
    known = {each.id: each for each in rules.fields}
    for each, one in held.items():
        if each in known:
            check(known[each].kind, one, f"{at}.{known[each].name}", findings)
        else:
            findings.violations[f"{at}.{each.removeprefix('?')}"] = "is not a field of this group"
    for each, defined in known.items():
        if defined.required and _is_empty(held.get(each, {})):
            findings.violations[f"{at}.{defined.name}"] = "is required"
