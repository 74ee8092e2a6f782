"""How an import groups, finds and compares items; that it does so to a real service is tested with the mesh."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from libs import text
from libs.filters import Field, compile_filter
from thmnayah.cli import imports
from thmnayah.cli.imports import Counts
from thmnayah.cli.records import BadLine, Problem, Record
from thmnayah.content.v1.content_pb2 import Content

EXTERNAL_IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


def records(external_ids: list[str]) -> Iterator[Record]:
    return (Record(line, Content(external_id=each), []) for line, each in enumerate(external_ids, start=1))


@given(EXTERNAL_IDS)
def test_any_external_id_can_be_looked_up(external_id: str) -> None:
    parameters: list[object] = []

    compile_filter(imports.equals_external_id(external_id), {"external_id": Field("external_id")}, parameters)

    assert parameters == [text.nfc(external_id)]  # as it is stored


@given(st.lists(EXTERNAL_IDS | st.sampled_from(["a", "b"]), max_size=200))
def test_batches_keep_the_order_and_hold_no_item_twice(external_ids: list[str]) -> None:
    batches = list(imports.batches(records(external_ids)))

    assert [entry.line for batch in batches for entry in batch] == list(range(1, len(external_ids) + 1))
    for batch in batches:
        keys = [entry.content.external_id for entry in batch if isinstance(entry, Record)]
        terms = " OR ".join(map(imports.equals_external_id, keys))
        assert len(set(keys)) == len(keys) <= imports.FILTER_TERMS
        assert len(terms.encode()) <= imports.FILTER_BYTES


def test_a_batch_is_bounded_in_memory() -> None:
    body = {"ar": "x" * (imports.BATCH_BYTES // 3)}
    large = (Record(line, Content(external_id=str(line), body=body), []) for line in range(7))

    assert [len(batch) for batch in imports.batches(large)] == [2, 2, 2, 1]


def test_bad_lines_are_handed_on_in_their_place() -> None:
    bad = BadLine(2, [Problem("", "is not a JSON object")])
    (first,) = records(["a"])

    assert list(imports.batches(iter([first, bad]))) == [[first, bad]]


def test_only_what_a_line_names_differs() -> None:
    content = Content(title={"ar": "أ", "en": "A"}, description={"en": "kept"}, tags=["x"], category="c")
    record = Record(1, Content(title={"ar": "أ", "en": "B"}, tags=["x"]), ["title.ar", "title.en", "tags", "category"])

    assert imports.differing(record, content) == ["title.en", "category"]


def test_a_text_is_the_same_however_its_letters_are_composed() -> None:
    content = Content(title={"ar": "\u0622"}, tags=["\u00e9"])
    record = Record(1, Content(title={"ar": "\u0627\u0653"}, tags=["e\u0301"]), ["title", "title.ar", "tags"])

    assert imports.differing(record, content) == []


def test_counts_say_what_is_not_finished() -> None:
    counts = Counts(read=10, created=3, updated=1, unchanged=1, failed=1, skipped=2, published=4)

    assert str(counts) == (
        "10 read: 3 created, 1 updated, 1 unchanged, 1 failed, 2 done before, 2 not finished; 4 published"
    )
