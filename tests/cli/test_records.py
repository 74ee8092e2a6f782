"""Lines of files as items, and back."""

import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thmnayah.cli import records
from thmnayah.cli.records import BadLine, Columns, Format, Record, WrongField
from thmnayah.content.v1.content_pb2 import Content

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LOCALES = st.dictionaries(st.sampled_from(["ar", "en", "zh-Hans"]), TEXT.filter(bool))


def read(data: str | bytes, format: Format = "jsonl", columns: Columns | None = None) -> list[Record | BadLine]:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return list(records.read(stream, format, columns or Columns()))


def record(data: str, format: Format = "jsonl", columns: Columns | None = None) -> Record:
    (entry,) = read(data, format, columns)
    assert isinstance(entry, Record), entry
    return entry


def problems(data: str | bytes, format: Format = "jsonl") -> list[tuple[int, str]]:
    return [
        (entry.line, problem.field)
        for entry in read(data, format)
        if isinstance(entry, BadLine)
        for problem in entry.problems
    ]


def test_our_own_json_is_an_item() -> None:
    line = record('{"externalId": "a", "type": "article", "title": {"ar": "مرحبا", "en": "Hello"}, "tags": ["x"]}')

    assert line.content == Content(external_id="a", type="article", title={"ar": "مرحبا", "en": "Hello"}, tags=["x"])
    assert line.paths == ["title", "tags"]


def test_what_the_service_sets_is_not_looked_at() -> None:
    line = record('{"externalId": "a", "state": "PUBLISHED", "locales": {"ar": {}}, "version": 3, "createTime": "x"}')

    assert line.content == Content(external_id="a")
    assert line.paths == []


@pytest.mark.parametrize("name", ["title.ar", "title_ar"])
def test_one_locale_is_named_flat(name: str) -> None:
    line = record(json.dumps({"externalId": "a", name: "مرحبا", "body.pt_BR": "Olá"}))

    assert line.content == Content(external_id="a", title={"ar": "مرحبا"}, body={"pt-BR": "Olá"})
    assert line.paths == ["title.ar", "body.pt-BR"]


def test_an_empty_value_clears_and_a_missing_one_does_not() -> None:
    line = record('{"externalId": "a", "description.en": "", "category": null, "slug": {}}')

    assert line.content == Content(external_id="a")
    assert line.paths == ["description.en", "category"]


def test_a_foreign_file_is_read_through_a_map_and_defaults() -> None:
    columns = Columns({"sku": "externalId", "views": ""}, {"type": "article", "tags": "a;b", "title.en": "Untitled"})

    line = record('{"sku": 17, "views": 3, "title_en": "", "title_ar": "عنوان"}', columns=columns)

    assert line.content == Content(
        external_id="17", type="article", title={"ar": "عنوان", "en": "Untitled"}, tags=["a", "b"]
    )


@pytest.mark.parametrize(
    ("renamed", "defaults"), [({"a": "nothing"}, {}), ({}, {"nothing": "x"}), ({}, {"title": "in which locale?"})]
)
def test_a_map_to_no_field_is_refused_before_a_line_is_read(renamed: dict[str, str], defaults: dict[str, str]) -> None:
    with pytest.raises(WrongField, match=r"nothing|title"):
        Columns(renamed, defaults)


def test_a_line_of_an_export_is_known_by_its_id() -> None:
    line = record('{"id": "018F0000-0000-7000-8000-000000000001", "externalId": "", "type": "article"}')

    assert line.content.id == line.content.external_id == "018f0000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"{", ""),
        (b"[1]", ""),
        (b'{"externalId": "\xff"}', ""),
        (b"[" * 100_000, ""),
        (b'{"externalId": "a", "n": ' + b"9" * 10_000 + b"}", ""),
        (b'{"externalId": "a", "body": {"ar": "' + b"x" * records.MAX_LINE_BYTES + b'"}}', ""),
        (b"{}", "externalId"),
        (b'{"id": "x001"}', "externalId"),
        (b'{"externalId": "a\\u0000"}', "externalId"),
        (b'{"externalId": "' + b"a" * 201 + b'"}', "externalId"),
        (b'{"externalId": "a", "headline": "x"}', "headline"),
        (b'{"externalId": "a", "title": "in which locale?"}', "title"),
        (b'{"externalId": "a", "title": {"ar": 1}}', "title"),
        (b'{"externalId": "a", "title.ar": "x", "title_ar": "y"}', "title_ar"),
        (b'{"externalId": "a", "title_ar": "x", "title": {"en": "y"}}', "title_ar"),
        (b'{"externalId": "a", "category": 1}', "category"),
        (b'{"externalId": "a", "category": "\\ud800"}', "category"),
        (b'{"externalId": "a", "tags": [1]}', "tags"),
        (b'{"externalId": "a", "tags": {"x": "y"}}', "tags"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_line_is_told_with_its_number_and_field(line: bytes, field: str) -> None:
    good = b'{"externalId": "a"}\n'

    assert problems(good + b"\n" + line + b"\n" + good) == [(3, field)]


@given(st.binary(max_size=300))
def test_no_bytes_stop_the_reading_of_json(data: bytes) -> None:
    lines = [line for line in data.split(b"\n") if line.removeprefix(b"\xef\xbb\xbf").strip()]

    assert len(read(data)) in (len(lines), len(lines) - 1)  # a mark before blanks is an empty line too


@given(st.binary(max_size=300))
def test_no_bytes_stop_the_reading_of_csv(data: bytes) -> None:
    read(b"externalId,title.ar\n" + data, "csv")


def test_csv_is_read_as_rfc_4180_has_it() -> None:
    data = '\ufeffexternalId,title.en,tags\r\na,"one, ""two""\r\nthree",x|y; z\r\n\r\nb,"",\r\n'

    first, second = read(data, "csv")

    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.content == Content(external_id="a", title={"en": 'one, "two"\r\nthree'}, tags=["x", "y", "z"])
    assert (second.line, second.paths) == (5, ["title.en", "tags"])


@pytest.mark.parametrize("row", [b"a", b"a,b,c", b'a,"b"c', b"a,\xff", b'a,"' + b"x" * records.MAX_LINE_BYTES + b'"'])
def test_a_bad_row_does_not_stop_the_others(row: bytes) -> None:
    entries = read(b"externalId,category\n" + row + b"\nb,c\n", "csv")

    assert isinstance(entries[0], BadLine)
    assert entries[0].line == 2
    assert isinstance(entries[1], Record)
    assert entries[1].line == 3


@pytest.mark.parametrize("header", ["externalId,headline", "externalId,title"])
def test_a_header_that_names_no_field_is_told_once(header: str) -> None:
    with pytest.raises(WrongField, match=r"headline|title"):
        read(f"{header}\na,b\nc,d\n", "csv")


@given(TEXT)
def test_a_guarded_cell_is_no_formula_and_comes_back(cell: str) -> None:
    guarded = records.guard(cell)

    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert records.unguard(guarded) == cell


@given(st.lists(TEXT))
def test_a_list_comes_back_from_one_cell(items: list[str]) -> None:
    assert records.split_list(records.join_list(items)) == items


def item(**fields: object) -> Content:
    return Content(id="018f0000-0000-7000-8000-000000000001", type="article", **fields)  # type: ignore[arg-type]  # any field


@st.composite
def items(draw: st.DrawFn) -> Content:
    return item(
        external_id=draw(st.text("aب|=\"'\\;, ", min_size=1, max_size=9)),
        **{name: draw(LOCALES) for name in records.LOCALISED},
        category=draw(TEXT),
        tags=draw(st.lists(TEXT, max_size=3)),
    )


def written(lines: Iterator[dict[str, object]], format: Format) -> str:
    every = list(lines)
    if format == "jsonl":
        return "".join(json.dumps(line) + "\n" for line in every)
    columns = records.csv_columns({"ar", "en", "zh-Hans"})
    rows = [columns, *(records.csv_cells(line, columns) for line in every)]
    return "".join(map(records.csv_line, rows))


@pytest.mark.parametrize("format", ["jsonl", "csv"])
@given(content=items())
def test_an_exported_item_is_read_as_the_same(format: Format, content: Content) -> None:
    line = record(written(records.lines_of(content, None), format), format)

    content.ClearField("id")
    assert line.content == content


def test_the_locales_that_readers_see_are_exported() -> None:
    draft = item(title={"ar": "أ", "en": "A"}, external_id="a")
    shown = item(title={"ar": "أ"}, external_id="a")

    (line,) = records.lines_of(draft, shown)

    assert line["publishedLocales"] == ["ar"]


def test_an_item_changed_since_its_publication_is_exported_as_what_readers_see_and_then_the_draft() -> None:
    draft = item(title={"ar": "جديد"}, external_id="a")
    shown = item(title={"ar": "قديم", "en": "Old"}, external_id="a")

    first, second = (record(json.dumps(line)) for line in records.lines_of(draft, shown))

    assert (first.content.title["ar"], first.published_locales) == ("قديم", ["ar", "en"])
    assert (second.content.title["ar"], list(second.published_locales)) == ("جديد", [])
    assert "title" in second.paths  # as a whole, so that the locale that readers alone have is gone
