"""Search: what a reader's words find, and what they do not."""

import asyncio
import base64
import json

import grpc
import pytest

from tests.content.items import Caller, refused
from tests.search.conftest import Finder, published

# What is asked, the text that is there, and whether a reader expects to find it.
PROBES = [
    ("الرياض", "الرياض", True),
    ("أحمد", "أحمد", True),
    ("رياض", "الرياض", True),
    ("الرياض", "رياض", True),
    ("الرياض", "بالرياض", True),
    ("الرياض", "للرياض", True),
    ("الرياض", "والرياض", True),
    ("الرياض", "وبالرياض", True),
    ("الرياض", "وللرياض", True),
    ("الرياض", "فالرياض", True),
    ("الرياض", "كالرياض", True),
    ("للرياض", "الرياض", True),
    ("بالرياض", "رياض", True),
    ("الرياض", "الرِّيَاضِ", True),
    ("الرِّيَاضِ", "الرياض", True),
    ("الرياض", "الريـاض", True),
    ("الريـــاض", "الرياض", True),
    ("الرياض", "«الرياض»،", True),
    ("الرياض؟", "الرياض", True),
    ("الرياض", "ﺍﻟﺮﻳﺎﺽ", True),
    ("الرياض", "ا\u200cلرياض\u200f", True),
    ("احمد", "أحمد", True),
    ("أحمد", "احمد", True),
    ("اسلام", "إسلام", True),
    ("الان", "الآن", True),
    ("اخر", "آخر", True),
    ("آخر", "ا\u0653خر", True),
    ("مكتبه", "مكتبة", True),
    ("مكتبة", "مكتبه", True),
    ("مستشفي", "مستشفى", True),
    ("مستشفى", "مستشفي", True),
    ("القران", "القُرْآن", True),
    ("القُرْآن", "القران", True),
    ("ميزانية 2024", "ميزانية ٢٠٢٤", True),
    ("2024", "٢٠٢٤", True),
    ("٢٠٢٤", "2024", True),
    ("۲۰۲۴", "٢٠٢٤", True),
    ("مهندس", "المهندسون", True),
    ("مهندسين", "المهندسات", True),
    ("university", "universities", True),
    ("universities", "university", True),
    ("run", "running", True),
    ("cafe", "café", True),
    ("café", "cafe", True),
    ("cafe", "cafe\u0301", True),
    ("NATIONAL", "national", True),
    ("national", "NATIONAL", True),
    ("children", "children's", True),
    ("water national", "national water company", True),
    ("national company", "national water company", True),
    ("ｗａｔｅｒ", "water", True),
    ("strasse", "Straße", True),
    ("art", "Department", False),
    ("cat", "education", False),
    ("ear", "research in the heart", False),
    ("علم", "استعلامات", False),
    ("20", "2024", False),
    ("ما هي عاصمة المملكة العربية السعودية؟", "الرياض عاصمة السعودية", True),
    ("متى تأسست الجامعة الأولى في الرياض؟", "تأسست جامعة الملك سعود عام ١٩٥٧ في الرياض", True),
    ("What is the capital of Saudi Arabia?", "Riyadh, the Saudi capital", True),
    ("When was the first university of Riyadh founded?", "King Saud University was founded in 1957", True),
]

FILED = 'category = "probes"'


@pytest.fixture(scope="module")
async def filed(editing: Caller, finder: Finder) -> dict[str, str]:
    """An item for each text of the table: its id."""
    for left_behind in await editing.walk(filter=FILED):
        await editing.delete(left_behind.id)
    ids = {}
    for text in dict.fromkeys(text for _, text, _ in PROBES):
        ids[text] = (await published(editing, category="probes", title={"en": "Probe"}, body={"en": text})).id
    await finder.until("probe", list(ids.values()), filter=FILED)
    return ids


@pytest.mark.parametrize(("query", "text", "wanted"), PROBES)
async def test_words_find_what_a_reader_expects(
    finder: Finder, filed: dict[str, str], query: str, text: str, wanted: bool
) -> None:
    found = await finder.ids(query, filter=FILED)

    assert (filed[text] in found) == wanted


async def test_what_holds_more_of_the_words_comes_first(editing: Caller, finder: Finder, word: str) -> None:
    other = word + "b"
    both = await published(editing, title={"en": f"{word} and {other}"})
    first = await published(editing, title={"en": f"{word} alone here"})
    second = await published(editing, title={"en": f"{other} alone here"})
    await finder.until(f"{word} {other}", [both.id, first.id, second.id])

    answer = await finder.ask(f"{word} {other}")

    assert answer.results[0].content.id == both.id
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


async def test_a_rare_word_counts_more_than_a_common_one(editing: Caller, finder: Finder, word: str) -> None:
    common = [await published(editing, title={"en": f"{word} common"}) for _ in range(6)]
    rare = await published(editing, title={"en": f"{word}rare thing"})
    await finder.until(word, [item.id for item in common])
    await finder.until(word + "rare", [rare.id])

    assert (await finder.ids(f"{word} {word}rare"))[0] == rare.id


async def test_a_locale_narrows_to_its_texts(editing: Caller, finder: Finder, word: str) -> None:
    item = await published(editing, title={"ar": f"قمر {word}ar", "en": f"moon {word}en"})
    await finder.until(word + "ar", [item.id])

    for query, locale, wanted in (
        (word + "ar", "ar", [item.id]),
        (word + "en", "en", [item.id]),
        (word + "ar", "en", []),
        (word + "en", "ar", []),
        (word + "en", "fr", []),
    ):
        assert await finder.ids(query, locale=locale) == wanted
    result = (await finder.ask(f"{word}ar {word}en", locale="en")).results[0]
    assert {highlight.locale for highlight in result.highlights} == {"en"}


async def test_filters_narrow_by_type_category_tags_and_time(editing: Caller, finder: Finder, word: str) -> None:
    episode = await published(editing, type="episode", title={"en": word}, category="history", tags=["a", "b"])
    article = await published(editing, type="article", title={"en": word}, category="news", tags=["b"])
    await finder.until(word, [episode.id, article.id])
    moment = article.publish_time.ToJsonString()

    for filter, wanted in (
        ('type = "episode"', {episode.id}),
        ('type != "episode"', {article.id}),
        ('category = "news"', {article.id}),
        ('tags:"a"', {episode.id}),
        ('tags:"b"', {episode.id, article.id}),
        ('tags:"b" AND NOT tags:"a"', {article.id}),
        ('category = "news" OR type = "episode"', {episode.id, article.id}),
        (f'publish_time < "{moment}"', {episode.id}),
        (f'publishTime >= "{moment}"', {article.id}),
        ('category = "none"', set()),
    ):
        answer = await finder.ask(word, filter=filter)
        assert {result.content.id for result in answer.results} == wanted, filter
        assert answer.total_size == len(wanted)


async def test_pages_hold_every_result_once_best_first(editing: Caller, finder: Finder, word: str) -> None:
    items = await asyncio.gather(
        *(published(editing, title={"en": word + " x" * (number // 8)}) for number in range(33))
    )
    await finder.until(word, [item.id for item in items])

    for size in (1, 7, 32, 33, 200):
        answer = await finder.ask(word, page_size=size)
        assert (len(answer.results), answer.total_size) == (min(size, 33), 33)
        assert bool(answer.next_page_token) == (size < 33)
        results = await finder.walk(word, page_size=size)
        assert sorted(result.content.id for result in results) == sorted(item.id for item in items)
        scores = [result.score for result in results]
        assert scores == sorted(scores, reverse=True)


async def test_the_total_is_the_same_on_every_page(editing: Caller, finder: Finder, word: str) -> None:
    items = [await published(editing, title={"en": word}) for _ in range(5)]
    await finder.until(word, [item.id for item in items])

    totals, token = [], ""
    for _ in range(3):
        answer = await finder.ask(word, page_size=2, page_token=token)
        totals.append(answer.total_size)
        token = answer.next_page_token

    assert totals == [5, 5, 5]


async def test_a_page_token_belongs_to_its_question(editing: Caller, finder: Finder, word: str) -> None:
    items = [await published(editing, title={"en": f"{word} other"}) for _ in range(3)]
    await finder.until(word, [item.id for item in items])
    token = (await finder.ask(word, page_size=1)).next_page_token

    for query, question in ((f"{word} other", {}), (word, {"locale": "en"}), (word, {"filter": "type = article"})):
        refusal = await refused(finder.ask(query, **question, page_token=token))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert list(refusal.violations) == ["pageToken"]


async def test_a_result_is_the_item_without_its_body(editing: Caller, finder: Finder, word: str) -> None:
    item = await published(
        editing,
        title={"ar": "عنوان", "en": word},
        description={"en": "Described"},
        body={"en": "A long body"},
        category="history",
        tags=["a"],
        external_id=word,
    )
    await finder.until(word, [item.id])

    found = (await finder.ask(word)).results[0].content

    seen = await Caller(editing.channel).get(item.id)
    seen.ClearField("body")
    assert found == seen


@pytest.mark.parametrize(
    "query",
    [
        "the of and",
        "في من على",
        "؟",
        "...",
        "\u0640\u0640",
        "\u064e",
        "😀",
        "'",
        '"',
        "*",
        "%",
        "_",
        "-",
        "\\",
        "()",
        "\t",
    ],
)
async def test_a_question_without_words_finds_nothing_and_breaks_nothing(finder: Finder, query: str) -> None:
    answer = await finder.ask(query)

    assert (len(answer.results), answer.total_size, answer.next_page_token) == (0, 0, "")


@pytest.mark.parametrize(
    "query",
    [
        "'; DROP TABLE documents; --",
        "a" * 512,
        "𐤀" * 512,
        "ا " * 256,
        "x" * 300 + " y",
        "a\nb",
        "\ufffe \U0010ffff",
        "$1 %s {}",
    ],
)
async def test_a_strange_question_breaks_nothing(finder: Finder, query: str) -> None:
    await finder.ask(query)


@pytest.mark.parametrize(
    ("question", "violation"),
    [
        ({"query": ""}, "query"),
        ({"query": "x" * 513}, "query"),
        ({"query": "a\0b"}, "query"),
        ({"query": "x", "locale": "english"}, "locale"),
        ({"query": "x", "page_size": 201}, "pageSize"),
        ({"query": "x", "page_size": -1}, "pageSize"),
        ({"query": "x", "page_token": "x"}, "pageToken"),
        ({"query": "x", "filter": "title = x"}, "filter"),
        ({"query": "x", "filter": "category ="}, "filter"),
    ],
)
async def test_what_cannot_be_read_is_refused(finder: Finder, question: dict[str, object], violation: str) -> None:
    refusal = await refused(finder.ask(**question))  # type: ignore[arg-type]  # the table holds one query each

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [violation]


@pytest.mark.parametrize(
    "key", ["1e999, 1", "NaN, 1", "-1.5, -1", "1.5, 1000000000000", "1.5, 1e3", "1, 1", "1.5, true"]
)
async def test_a_page_token_that_was_tampered_with_breaks_nothing(
    editing: Caller, finder: Finder, word: str, key: str
) -> None:

    items = [await published(editing, title={"en": word}) for _ in range(2)]
    await finder.until(word, [item.id for item in items])
    token = (await finder.ask(word, page_size=1)).next_page_token
    digest = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))[0]
    forged = base64.urlsafe_b64encode(f'["{digest}", {key}]'.encode()).decode().rstrip("=")

    try:
        await finder.ask(word, page_size=1, page_token=forged)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
