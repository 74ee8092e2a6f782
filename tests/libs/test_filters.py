"""Filters: what they let through, compared with a plain evaluator, and what never gets into the SQL."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deploy.local.mesh import Mesh
from libs import filters
from libs.errors import InvalidArgument
from libs.filters import Field

FIELDS = {
    "kind": Field("kind"),
    "category": Field("category"),
    "tags": Field("tags", "list"),
    "made": Field("made", "time"),
    "shown": Field("shown", "time"),
}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = ["a", "b", "أ", "AND", "OR", "NOT", "it's", 'say "x"', "back\\slash", "*", "", "a b", "-", "(", "$1", "%", "é"]
SLOW = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

# All that a condition may be made of; anything else would have come out of the filter's text.
SQL_TOKEN = re.compile(
    r"\s*(?:kind|category|tags|made|shown|AND|OR|NOT|IS|TRUE|NULL|ANY|cardinality|0|\$\d+|<>|<=|>=|[=<>()])"
)


@dataclass(frozen=True)
class Row:
    """A row of the table that the filters are run on."""

    id: int
    kind: str
    category: str | None
    tags: tuple[str, ...]
    made: datetime
    shown: datetime | None


ROWS = [
    Row(
        number,
        TEXTS[number % len(TEXTS)],
        None if number % 5 == 0 else TEXTS[(number * 7) % len(TEXTS)],
        tuple(sorted({TEXTS[(number * step) % len(TEXTS)] for step in range(number % 4)})),
        EPOCH + timedelta(hours=number % 11),
        None if number % 3 == 0 else EPOCH + timedelta(hours=(number * 5) % 11),
    )
    for number in range(200)
]


@dataclass(frozen=True)
class Compared:
    """A filter, and what it should say of a row."""

    text: str
    verdicts: tuple[bool, ...]


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def restrictions(draw: st.DrawFn) -> Compared:
    name = draw(st.sampled_from(sorted(FIELDS)))
    space = draw(st.sampled_from(["", " "]))
    column = [getattr(row, name) for row in ROWS]
    if draw(st.integers(0, 4)) == 0:
        return Compared(
            f"{name}:{space}*", tuple(bool(value) if name == "tags" else value is not None for value in column)
        )
    if FIELDS[name].kind == "time":
        sign = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"]))
        moment = EPOCH + timedelta(hours=draw(st.integers(-1, 12)))
        verdicts = tuple(value is not None and ordered(value, sign, moment) for value in column)
        shift = timedelta(hours=draw(st.integers(-12, 12)))
        written = moment.replace(tzinfo=None).isoformat() + "Z" if not shift else offset(moment, shift)
        return Compared(f"{name}{space}{sign}{space}{quoted(written)}", verdicts)
    sign = draw(st.sampled_from(["=", "!=", ":"]))
    value = draw(st.sampled_from(TEXTS))
    bare = re.fullmatch(r"[a-zأé$%\d]+", value) and draw(st.booleans())
    written = value if bare else quoted(value)
    if name == "tags":
        has = [value in tags for tags in column]
        return Compared(f"{name}{space}{sign}{space}{written}", tuple(each != (sign == "!=") for each in has))
    same = [None if each is None else each == value for each in column]
    return Compared(
        f"{name}{space}{sign}{space}{written}", tuple(each is not None and each != (sign == "!=") for each in same)
    )


def ordered(value: datetime, sign: str, moment: datetime) -> bool:
    return {
        "=": value == moment,
        ":": value == moment,
        "!=": value != moment,
        "<": value < moment,
        "<=": value <= moment,
        ">": value > moment,
        ">=": value >= moment,
    }[sign]


def offset(moment: datetime, shift: timedelta) -> str:
    """The moment as a clock elsewhere shows it."""
    hours = int(shift.total_seconds() // 3600)
    return (moment + shift).replace(tzinfo=None).isoformat() + f"{hours:+03d}:00"


def negated(inner: Compared, sign: str) -> Compared:
    return Compared(f"{sign}({inner.text})", tuple(not verdict for verdict in inner.verdicts))


def joined(parts: list[Compared], how: str) -> Compared:
    every = zip(*(part.verdicts for part in parts), strict=True)
    word = {"AND": " AND ", "OR": " OR ", "beside": " "}[how]
    verdicts = tuple(any(row) if how == "OR" else all(row) for row in every)
    return Compared("(" + word.join(part.text for part in parts) + ")", verdicts)


FILTERS = st.recursive(
    restrictions(),
    lambda inner: (
        st.builds(negated, inner, st.sampled_from(["NOT ", "-"]))
        | st.builds(joined, st.lists(inner, min_size=1, max_size=3), st.sampled_from(["AND", "OR", "beside"]))
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
async def table(mesh: Mesh) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection with the rows in a table that goes with it."""
    conn = await asyncpg.connect(mesh.database_url("search"))
    await conn.execute(
        "CREATE TEMPORARY TABLE filtered (id integer, kind text NOT NULL, category text, tags text[] NOT NULL,"
        " made timestamptz NOT NULL, shown timestamptz)"
    )
    await conn.copy_records_to_table(
        "filtered", records=[(row.id, row.kind, row.category, row.tags, row.made, row.shown) for row in ROWS]
    )
    yield conn
    await conn.close()


async def matching(conn: "asyncpg.Connection[asyncpg.Record]", filter: str) -> list[int]:
    parameters: list[object] = []
    condition = filters.compile_filter(filter, FIELDS, parameters)
    return [
        row["id"] for row in await conn.fetch(f"SELECT id FROM filtered WHERE {condition} ORDER BY id", *parameters)
    ]


@SLOW
@given(FILTERS)
async def test_a_filter_lets_through_what_it_says(
    table: "asyncpg.Connection[asyncpg.Record]", compared: Compared
) -> None:
    wanted = [row.id for row, verdict in zip(ROWS, compared.verdicts, strict=True) if verdict]

    assert await matching(table, compared.text) == wanted


@pytest.mark.parametrize(
    ("filter", "same"),
    [
        ("kind = a AND kind = b OR kind = a", "kind = a AND (kind = b OR kind = a)"),
        ("kind = a OR kind = b kind = a", "(kind = a OR kind = b) AND kind = a"),
        ("kind = a kind = b", "kind = a AND kind = b"),
        ("NOT kind = a OR kind = b", "(NOT kind = a) OR kind = b"),
        ("-kind = a kind = b", "(NOT kind = a) AND kind = b"),
        ("kind:a", "kind = a"),
        ("kind='a'", 'kind = "a"'),
        ("  kind  =\n\ta  ", "kind=a"),
        ("", "made:*"),
        ("   ", "made:*"),
    ],
)
async def test_words_between_restrictions_bind_as_the_aip_has_it(
    table: "asyncpg.Connection[asyncpg.Record]", filter: str, same: str
) -> None:
    assert await matching(table, filter) == await matching(table, same)


async def test_what_is_not_set_is_found_by_its_absence_alone(table: "asyncpg.Connection[asyncpg.Record]") -> None:
    unset = [row.id for row in ROWS if row.category is None]

    assert await matching(table, "NOT category:*") == unset
    assert not set(unset) & set(await matching(table, "category != a"))
    assert set(unset) <= set(await matching(table, "NOT category = a"))


@settings(SLOW, max_examples=300)
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["kind", "tags", "made", "=", "!=", ":", "<", "(", ")", "AND", "OR", "NOT", "-", "*", "a", '"x"', "'y'"]
            + ["'", '"', "\\", ";", "--", "/*", "$1", "$$", "DROP TABLE", "\0", "\n", '"2026-01-01T00:00:00Z"', " "]
            + ["pg_sleep(9)", "1=1", "NULL", "TRUE", "kind=a", "kind::text", "'; SELECT 1; --", "\u2028", "\ud7ff"]
        ),
        max_size=12,
    ).map("".join)
    | FILTERS.map(lambda compared: compared.text + " ")
)
@example('kind = "\'; DROP TABLE filtered; --"')
@example('made > "0001-01-01T00:00:00+14:00"')
@example('made < "9999-12-31T23:59:59-14:00"')
@example('made < "2026-01-01T00:00:00.123456789Z"')
@example("-" * 500 + "kind = a")
@example("(" * 1000)
@example("NOT " * 500 + "kind = a")
async def test_whatever_is_asked_the_sql_holds_columns_and_parameters_alone(
    table: "asyncpg.Connection[asyncpg.Record]", filter: str
) -> None:
    parameters: list[object] = ["the first is the caller's"]
    try:
        condition = filters.compile_filter(filter, FIELDS, parameters)
    except InvalidArgument as refusal:
        assert list(refusal.violations) == ["filter"]
        return
    assert SQL_TOKEN.sub("", condition).strip() == ""
    used = {int(number) for number in re.findall(r"\$(\d+)", condition)}
    assert used == set(range(2, len(parameters) + 1))
    assert parameters[0] == "the first is the caller's"
    await table.fetch(f"SELECT id FROM filtered WHERE $1::text IS NOT NULL AND {condition}", *parameters)


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ("title = x", "title"),
        ("kind", "kind"),
        ("kind =", "kind"),
        ("= x", "="),
        ("kind = x)", ")"),
        ("(kind = x", "parenthesis"),
        ("kind < x", "kind"),
        ("tags < x", "tags"),
        ("made = x", "made"),
        ('made = "2026-01-01"', "made"),
        ("kind = x AND", "field"),
        ("kind = x OR OR kind = y", "OR"),
        ("kind = AND", "kind"),
        ('kind = "x', '"x'),
    ],
)
def test_a_refusal_says_where_the_filter_is_wrong(filter: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        filters.compile_filter(filter, FIELDS, [])

    assert said in caught.value.violations["filter"]


@pytest.mark.parametrize(("depth", "terms", "fits"), [(9, 1, True), (10, 1, False), (0, 50, True), (0, 51, False)])
def test_a_filter_is_bounded(depth: int, terms: int, fits: bool) -> None:
    filter = "(" * depth + " OR ".join(["kind = a"] * terms) + ")" * depth

    if fits:
        assert filters.compile_filter(filter, FIELDS, [])
    else:
        with pytest.raises(InvalidArgument):
            filters.compile_filter(filter, FIELDS, [])
