"""Importing and exporting: what is in the service afterwards."""

import json
import signal
from pathlib import Path
from typing import Any

from tests.cli.conftest import Cli, Found
from tests.conftest import eventually
from thmnayah.client import Mesh as Client
from thmnayah.content.v1.content_pb2 import Content, CreateContentRequest, DeleteContentRequest

_LIST = {"list": {}, "items": [{"blocks": [{"paragraph": {"spans": [{"text": "قائمة", "bold": True}]}}]}]}


def items(word: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "externalId": f"{word}-{number}",
            "type": "article",
            "title": {"ar": f"عنوان {word} {number}", "en": f"Title {word} {number}"},
            "body": {"ar": "نص", "en": 'a "text",\n=of lines'},
            "category": word,
            "tags": ["a|b", "c"],
            "fields": {
                "story": {"localized": {"values": {"ar": {"richText": {"blocks": [_LIST, {"divider": {}}]}}}}},
                "subtitle": {"localized": {"values": {"ar": {"text": "فرعي"}, "en": {"text": "Sub"}}}},
            },
        }
        for number in range(count)
    ]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("imports/*"))


async def acknowledged(folder: Path) -> int:
    """How many lines the checkpoints in a folder know."""
    return sum(file.read_bytes().count(b"1") for file in checkpoints(folder))


def counts(**given: int) -> dict[str, int]:
    names = ("read", "created", "updated", "unchanged", "failed", "skipped", "published")
    return dict.fromkeys(names, 0) | given


async def test_an_import_creates_updates_or_leaves_alone(cli: Cli, found: Found, tmp_path: Path, word: str) -> None:
    file = tmp_path / "items.jsonl"
    lines = items(word, 3)

    first = await cli("content", "import", write(file, lines), "--publish", "--json")
    again = await cli("content", "import", file, "--publish", "--json")
    lines[1]["title"]["en"] = "Another"
    changed = await cli("content", "import", write(file, lines), "--publish", "--json")

    assert first.lines == [counts(read=3, created=3, published=3)]
    assert again.lines == [counts(read=3, unchanged=3)]
    assert changed.lines == [counts(read=3, updated=1, unchanged=2, published=1)]
    stored = (await found(word))[f"{word}-1"]
    assert stored.title == {"ar": f"عنوان {word} 1", "en": "Another"}
    assert stored.state == Content.PUBLISHED


async def test_a_foreign_file_is_imported_by_one_command(cli: Cli, found: Found, word: str) -> None:
    lines = f"sku,title_ar,title_en,views\n{word},عنوان,Title,7\n"

    ended = await cli(
        *("content", "import", "-", "--format", "csv", "--id-field", "sku", "--map", "views="),
        *("--set", "type=article", "--set", f"category={word}"),
        stdin=lines,
    )

    assert (ended.status, ended.out.startswith("1 read: 1 created")) == (0, True)
    assert (await found(word))[word].title == {"ar": "عنوان", "en": "Title"}


async def test_bad_lines_are_told_and_stop_nothing(cli: Cli, found: Found, tmp_path: Path, word: str) -> None:
    good, long, retyped = items(word, 3)
    long["title"]["en"] = "x" * 301
    errors = tmp_path / "errors.jsonl"
    lines = [json.dumps(line) for line in (good, long, retyped, retyped | {"type": "episode"})]

    ended = await cli(
        "content", "import", "-", "--errors", errors, "--json", stdin="\n".join([lines[0], "{", *lines[1:]])
    )

    assert ended.status == 1
    assert ended.lines == [counts(read=5, created=2, failed=3)]
    assert sorted((error["line"], error["field"]) for error in read(errors)) == [(2, ""), (3, "title.en"), (5, "type")]
    assert "line 3: title.en: must be at most 300 characters\n" in ended.err
    assert (await found(word)).keys() == {f"{word}-0", f"{word}-2"}


async def test_a_dry_run_finds_the_same_and_changes_nothing(cli: Cli, found: Found, word: str) -> None:
    existing, new, bad = items(word, 3)
    await cli("content", "import", "-", stdin=json.dumps(existing))
    bad["slug"] = {"en": "not a slug"}
    lines = "\n".join(map(json.dumps, (existing | {"tags": []}, new, bad)))

    ended = await cli("content", "import", "-", "--dry-run", "--publish", "--json", stdin=lines)

    assert ended.lines == [counts(read=3, created=1, updated=1, failed=1)]
    assert "line 3: slug.en: " in ended.err
    ((key, stored),) = (await found(word)).items()
    assert (key, list(stored.tags), stored.state) == (f"{word}-0", ["a|b", "c"], Content.DRAFT)


async def test_an_item_that_is_in_a_file_twice_ends_as_its_last_line_says(cli: Cli, found: Found, word: str) -> None:
    (item,) = items(word, 1)
    lines = [item | {"title": {"en": f"Title {number}"}} for number in range(20)]

    ended = await cli("content", "import", "-", "--json", stdin="\n".join(map(json.dumps, lines)))

    assert ended.lines == [counts(read=20, created=1, updated=19)]
    assert (await found(word))[f"{word}-0"].title == {"en": "Title 19"}


async def test_a_killed_import_goes_on_where_it_stopped(cli: Cli, found: Found, tmp_path: Path, word: str) -> None:
    file = write(tmp_path / "items.jsonl", items(word, 400))
    process = await cli.start("content", "import", file, THMNAYAH_STATE_DIR=str(tmp_path))
    await eventually(lambda: acknowledged(tmp_path), until=lambda lines: lines > 20, seconds=60)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    done = await acknowledged(tmp_path)

    ended = await cli("content", "import", file, "--json", THMNAYAH_STATE_DIR=str(tmp_path))

    (told,) = ended.lines
    assert (ended.status, told["read"], told["skipped"], told["failed"]) == (0, 400, done, 0)
    assert told["created"] + told["unchanged"] == 400 - done
    assert len(await found(word)) == 400
    assert await acknowledged(tmp_path) == 0


async def test_an_interrupted_import_says_how_far_it_came(cli: Cli, tmp_path: Path, word: str) -> None:
    file = write(tmp_path / "items.jsonl", items(word, 4000))
    process = await cli.start("content", "import", file, THMNAYAH_STATE_DIR=str(tmp_path))
    await eventually(lambda: acknowledged(tmp_path), until=lambda lines: lines > 20, seconds=60)

    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 130
    assert err.decode().startswith("cut short, the same command goes on from here: ")
    assert "Traceback" not in err.decode()


async def test_what_was_exported_is_the_same_after_an_import(
    cli: Cli, client: Client, found: Found, tmp_path: Path, word: str
) -> None:
    lines = items(word, 60)
    for number, line in enumerate(lines):
        line["publishedLocales"] = [[], ["ar"], ["ar", "en"]][number % 3]
    await cli("content", "import", write(tmp_path / "items.jsonl", lines))
    edited = {"externalId": f"{word}-2", "title": {"ar": "لم ينشر بعد"}, "description": {"ar": "'=قديم"}}
    await cli("content", "import", "-", stdin=json.dumps(edited))
    exports = [tmp_path / name for name in ("first.jsonl", "first.csv", "from-jsonl.jsonl", "from-csv.jsonl")]

    for file in exports[:2]:
        await cli("content", "export", file, "--filter", f"category = {word}")
    for source, again in zip(exports[:2], exports[2:], strict=True):
        for item in (await found(word)).values():
            await client.content.DeleteContent(DeleteContentRequest(id=item.id))
        ended = await cli("content", "import", source, "--json")
        assert ended.lines == [counts(read=61, created=60, updated=1, published=40)]
        await cli("content", "export", again, "--filter", f"category = {word}")

    first, from_jsonl, from_csv = (
        sorted(({**line, "id": ""} for line in read(file)), key=lambda line: str(line["externalId"]))
        for file in (exports[0], *exports[2:])
    )
    assert first == from_jsonl == from_csv
    both = [line for line in first if line["externalId"] == f"{word}-2"]
    assert [line["title"] for line in both] == [lines[2]["title"], edited["title"]]


async def test_an_item_without_an_external_id_is_known_by_its_id(
    cli: Cli, client: Client, tmp_path: Path, word: str
) -> None:
    draft = Content(type="article", title={"en": word}, category=word)
    item = await client.content.CreateContent(CreateContentRequest(content=draft))
    file = tmp_path / "items.jsonl"
    await cli("content", "export", file, "--filter", f"category = {word}")

    here = await cli("content", "import", file, "--json")
    await client.content.DeleteContent(DeleteContentRequest(id=item.id))
    elsewhere = [await cli("content", "import", file, "--json") for _ in range(2)]

    assert here.lines == [counts(read=1, unchanged=1)]
    assert [ended.lines for ended in elsewhere] == [[counts(read=1, created=1)], [counts(read=1, unchanged=1)]]
