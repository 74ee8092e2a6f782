"""Items as lines of a file, JSON Lines or CSV: reading them for an import, writing them for an export.

A line names fields: `type`, `externalId`, `category`, `tags`, `publishedLocales`, and `slug`, `title`,
`description` and `body` either whole (`"title": {"ar": "…", "en": "…"}`) or one locale at a time
(`title.ar`, `title_ar`), and `fields`, the custom ones by name, as the API writes them. What a line
names is set, what it names with an empty value is cleared, and what it does not name stays as it
is. Fields that only the service sets are not looked at.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal
from uuid import UUID

from google.api import field_behavior_pb2
from google.protobuf import json_format

from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.values_pb2 import Value

Format = Literal["jsonl", "csv"]

# As large as the largest request the server takes.
MAX_LINE_BYTES = 4 * 1024 * 1024

LOCALISED = ("slug", "title", "description", "body")
TEXTS = ("type", "category", "externalId")
LISTS = ("tags", "publishedLocales")

_ALIASES = {"external_id": "externalId", "published_locales": "publishedLocales"}
_ONE_LOCALE = re.compile(rf"({'|'.join(LOCALISED)})[._]([A-Za-z]{{2,3}}(?:[-_][A-Za-z0-9]{{2,8}})*)")
_SET_BY_SERVICE = {"etag"} | {
    name
    for each in Content.DESCRIPTOR.fields
    if field_behavior_pb2.OUTPUT_ONLY in each.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    for name in (each.name, each.json_name)
}

# An external id that could not even be looked up would fail the lines around it too.
MAX_EXTERNAL_ID = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# A spreadsheet would take such a cell for a formula. One that has quotes before it already gets
# one more, so that taking one off always gives back what was written.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


class WrongField(Exception):
    """A field that an item does not have, or that holds what it cannot; says what it needs."""


@dataclass(frozen=True)
class Problem:
    """Why a line is bad."""

    field: str
    """Its JSON name, such as title.ar; "" when it is the line as a whole."""
    reason: str


@dataclass(frozen=True)
class BadLine:
    """A line that no item can be made of."""

    line: int
    problems: Sequence[Problem]
    external_id: str = ""


@dataclass(frozen=True)
class Record:
    """What a line says of one item."""

    line: int
    content: Content
    """The values. It has an external id, and an id when the line names its item by that alone."""
    paths: Sequence[str]
    """The fields it names, as paths of an update mask."""
    published_locales: Sequence[str] = ()


class Columns:
    """How the fields of a file are to be read."""

    def __init__(self, renamed: Mapping[str, str] | None = None, defaults: Mapping[str, str] | None = None) -> None:
        """Args:
            renamed: for a name in the file, the field it stands for, or "" to leave it out.
            defaults: values of fields that a line leaves out or empty.

        Raises:
            WrongField: naming a field that an item does not have, or a value that it cannot have.
        """
        self.renamed = dict(renamed or {})
        self.defaults: dict[tuple[str, str], Any] = {}
        for name, field in self.renamed.items():
            with _naming(field):
                self.target(name)
        for name, value in (defaults or {}).items():
            with _naming(name):
                target = self.target(name)
                if target is not None:
                    self.defaults[target] = _value(*target, value)

    def target(self, name: str) -> tuple[str, str] | None:
        """The field and the locale ("" for all) that a name stands for; None for one to leave out.

        Raises:
            WrongField: it stands for nothing.
        """
        name = self.renamed.get(name, name)
        name = _ALIASES.get(name, name)
        if name in (*LOCALISED, *TEXTS, *LISTS, "fields", "id"):
            return name, ""
        if match := _ONE_LOCALE.fullmatch(name):
            return match[1], match[2].replace("_", "-")
        if name in _SET_BY_SERVICE or not name:
            return None
        raise WrongField("is not a field of an item; --map gives it another name or leaves it out")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except WrongField as error:
        raise WrongField(f"{name}: {error}") from None


# Reading.


def read(
    stream: BinaryIO, format: Format, columns: Columns, advance: Callable[[int], object] = lambda _: None
) -> Iterator[Record | BadLine]:
    """What each line of a file says, in order; empty lines are passed over.

    It holds one line at a time.

    Args:
        advance: told of each line's size in bytes as it is read.

    Raises:
        WrongField: in the header of a CSV file, which is about every line.
    """
    lines = _lines(stream, advance)
    for row in _csv_rows(lines, columns) if format == "csv" else _json_rows(lines):
        if isinstance(row, BadLine):
            yield row
        else:
            yield _record(*row, columns)


def split_list(cell: str) -> list[str]:
    """The items of a list in one cell: separated by | or ;, or a JSON array."""
    if cell.startswith("["):
        try:
            items = json.loads(cell)
        except ValueError:
            items = None
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return items
    return [item for item in map(str.strip, re.split("[|;]", cell)) if item]


def join_list(items: Sequence[str]) -> str:
    """One cell that `split_list` reads as these items."""
    cell = "|".join(items)
    return cell if split_list(cell) == list(items) else json.dumps(items, ensure_ascii=False)


def guard(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguard(cell: str) -> str:
    """The cell as it was before `guard`."""
    return cell[1:] if _GUARDED.match(cell) else cell


def _lines(stream: BinaryIO, advance: Callable[[int], object]) -> Iterator[tuple[int, bytes]]:
    """Each line with its number from 1; of one that is too long, as much as shows that it is."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(line)
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES + 1)
            size += len(rest)
        advance(size)
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


Row = tuple[int, Mapping[str, Any]]


def _json_rows(lines: Iterable[tuple[int, bytes]]) -> Iterator[Row | BadLine]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError("is longer than 4 MiB")
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield _bad_line(number, f"is not valid UTF-8 at byte {error.start + 1}")
        except json.JSONDecodeError as error:
            yield _bad_line(number, f"is not valid JSON at column {error.colno}: {error.msg}")
        except RecursionError:
            yield _bad_line(number, "is nested too deep")
        except ValueError as error:
            yield _bad_line(number, str(error))
        else:
            yield (number, row) if isinstance(row, dict) else _bad_line(number, "is not a JSON object")


def _csv_rows(lines: Iterable[tuple[int, bytes]], columns: Columns) -> Iterator[Row | BadLine]:
    header: list[str] = []
    for start, cells in _cells(lines):
        if isinstance(cells, str):
            yield _bad_line(start, cells)
        elif not header:
            header = [cell.strip() for cell in cells]
            _check_header(header, columns)
        elif len(cells) != len(header):
            yield _bad_line(start, f"has {len(cells)} cells where the header has {len(header)}")
        elif not_text := [name for name, cell in zip(header, cells, strict=True) if not _is_text(cell)]:
            yield BadLine(start, [Problem(name, "is not valid UTF-8") for name in not_text])
        else:
            yield start, {name: unguard(cell) for name, cell in zip(header, cells, strict=True)}


def _cells(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, list[str] | str]]:
    """The number of the line each row starts at, and its cells as RFC 4180 has them or what is wrong.

    A cell that is not UTF-8 holds surrogates in its place.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    number = 0

    def decoded(numbered: tuple[int, bytes]) -> str:
        nonlocal number
        number, line = numbered
        if len(line) > MAX_LINE_BYTES:
            raise csv.Error("a line is longer than 4 MiB")
        return line.decode("utf-8", "surrogateescape")

    # Unlike a generator, `map` goes on after an error.
    reader = csv.reader(map(decoded, lines), strict=True)
    while True:
        start = number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, f"is not valid CSV: {error}"
        else:
            if cells:
                yield start, cells


def _check_header(header: Sequence[str], columns: Columns) -> None:
    for name in header:
        with _naming(name):
            target = columns.target(name)
            if target is not None and target[0] in LOCALISED and not target[1]:
                raise WrongField(f"needs a locale, such as {target[0]}.ar")


def _record(line: int, row: Mapping[str, Any], columns: Columns) -> Record | BadLine:
    values, problems = _values(row, columns)
    external_id = values.get(("externalId", ""), "")
    item_id = "" if external_id else values.get(("id", ""), "")
    if not external_id and not item_id:
        problems.append(Problem("externalId", "is required; --id-field names the field that holds it"))
    elif _CONTROL.search(external_id) or len(external_id) > MAX_EXTERNAL_ID:
        problems.append(Problem("externalId", f"must be {MAX_EXTERNAL_ID} characters at most, no control ones"))
    if problems:
        return BadLine(line, problems, external_id)
    content = Content(id=item_id, external_id=external_id or item_id)
    paths = []
    for (name, locale), value in values.items():
        paths += _set(content, name, locale, value)
    return Record(line, content, paths, values.get(("publishedLocales", ""), ()))


def _set(content: Content, name: str, locale: str, value: Any) -> list[str]:
    """Put a value into an item; returns the paths of an update that sets it."""
    if name == "type":
        content.type = value
    elif name in LOCALISED:
        getattr(content, name).update({locale: value} if locale and value else value or {})
    elif name == "category":
        content.category = value
    elif name == "tags":
        content.tags.extend(value)
    elif name == "fields":
        for field, held in value.items():
            if held is not None:
                content.fields[field].CopyFrom(held)
        return [f"fields.{field}" for field in value]
    # Without a slug the service makes one from the title, so there is none to clear.
    if name in (*LOCALISED, "category", "tags") and (value or name != "slug"):
        return [f"{name}.{locale}" if locale else name]
    return []


def _values(row: Mapping[str, Any], columns: Columns) -> tuple[dict[tuple[str, str], Any], list[Problem]]:
    """What a line holds for each field and locale, and what is wrong with the others."""
    values: dict[tuple[str, str], Any] = {}
    problems = []
    # Whole fields before single locales, so that a text that is given both ways is seen.
    for name, value in sorted(row.items(), key=lambda item: not isinstance(item[1], dict)):
        try:
            target = columns.target(name)
            if target is None:
                continue
            if target in values:
                raise WrongField("is given twice")
            if (target[0], "") in values:
                raise WrongField(f"is given besides {target[0]} as a whole")
            values[target] = _value(*target, value)
        except WrongField as error:
            problems.append(Problem(columns.renamed.get(name, name), str(error)))
    for target, value in columns.defaults.items():
        if not values.get(target) and not values.get((target[0], "")):
            values[target] = value
    return values, problems


def _value(name: str, locale: str, value: Any) -> Any:
    if name in LISTS:
        items = split_list(value) if isinstance(value, str) else value or []
        if not isinstance(items, list):
            raise WrongField("must be a list of texts")
        return [_text(item) for item in items]
    if name in LOCALISED and not locale:
        if not isinstance(value, dict | None):
            raise WrongField('must hold a text for each locale, such as {"ar": "…", "en": "…"}')
        texts = {}
        for each, given in (value or {}).items():
            with _naming(each):
                texts[_text(each)] = _text(given)
        return {each: text for each, text in texts.items() if text}
    if name == "fields":
        return _fields(value)
    if name == "id":
        return _uuid(value)
    if name == "externalId" and type(value) is int:  # many a system counts its items
        return str(value)
    return _text(value)


def _fields(value: Any) -> dict[str, Value | None]:
    """Custom fields by name, None for one to clear; in CSV they are JSON in one cell."""
    try:
        given = json.loads(value) if isinstance(value, str) and value else value or {}
    except ValueError:
        raise WrongField("is not JSON") from None
    if not isinstance(given, dict):
        raise WrongField("must be an object")
    held: dict[str, Value | None] = {}
    for name, each in given.items():
        try:
            held[_text(name)] = None if each is None else json_format.ParseDict(each, Value())
        except (json_format.ParseError, AttributeError, TypeError):
            raise WrongField(f"holds no value of a field as {name}") from None
    return held


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise WrongField("must be text")
    if not _is_text(value):
        raise WrongField("holds half a character: a surrogate without its other one")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _uuid(value: object) -> str:
    try:
        return str(UUID(value)) if isinstance(value, str) else ""
    except ValueError:
        return ""


def _bad_line(number: int, reason: str) -> BadLine:
    return BadLine(number, [Problem("", reason)])


# Writing.


def lines_of(content: Content, shown: Content | None) -> Iterator[dict[str, Any]]:
    """The lines that an import elsewhere makes the same item of.

    An item that was changed since it was published takes two: what readers see, with the locales
    they see it in, and then the draft. So an import never publishes what nobody published.

    Args:
        content: the item as editors see it.
        shown: the item as readers see it; None when they do not.
    """
    if shown is not None and not shows(shown, content, shown.title):
        yield _line(shown, content.external_id) | {"id": content.id, "publishedLocales": sorted(shown.title)}
        yield _line(content, content.external_id)
    else:
        published = sorted(shown.title) if shown is not None else []
        yield _line(content, content.external_id) | {"publishedLocales": published}


def shows(shown: Content, content: Content, locales: Iterable[str]) -> bool:
    """Whether publishing the draft in these locales would change nothing of what readers see."""
    return (
        shown.category == content.category
        and shown.tags == content.tags
        and _fields_in(shown, locales) == _fields_in(content, locales)
        and all(
            getattr(shown, name).get(locale) == getattr(content, name).get(locale)
            for name in LOCALISED
            for locale in locales
        )
    )


def _fields_in(content: Content, locales: Iterable[str]) -> dict[str, object]:
    """What each custom field holds, of a localized one in these locales alone."""
    held = {
        name: [value.localized.values.get(locale) for locale in locales] if value.HasField("localized") else value
        for name, value in content.fields.items()
    }
    return {name: value for name, value in held.items() if not isinstance(value, list) or any(value)}


def csv_columns(locales: Iterable[str]) -> list[str]:
    """The header of a CSV file with these locales."""
    texts = [f"{name}.{locale}" for name in LOCALISED for locale in sorted(locales)]
    return ["externalId", "id", "type", *texts, "category", "tags", "fields", "publishedLocales"]


def csv_cells(line: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """A line of `lines_of` as the cells of a row."""
    cells = []
    for column in columns:
        name, _, locale = column.partition(".")
        value = line.get(name, "")
        if name == "fields":
            value = json.dumps(value, ensure_ascii=False) if value else ""
        cells.append(guard(value.get(locale, "") if locale else join_list(value) if isinstance(value, list) else value))
    return cells


def csv_line(cells: Sequence[str]) -> str:
    """A row as RFC 4180 writes it."""
    row = io.StringIO()
    csv.writer(row).writerow(cells)
    return row.getvalue()


def _line(content: Content, external_id: str) -> dict[str, Any]:
    return {
        "id": content.id,
        "externalId": external_id,
        "type": content.type,
        **{name: dict(sorted(getattr(content, name).items())) for name in LOCALISED},
        "category": content.category,
        "tags": list(content.tags),
        "fields": {name: json_format.MessageToDict(value) for name, value in sorted(content.fields.items())},
    }
