"""Text of every kind comes back as it went in, composed (NFC), from the item, from lists and from search."""

import asyncio
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import eventually
from tests.content.filing import Filing
from tests.content.items import Caller, refused
from tests.content.rest import Rest, define, field, make, violations
from thmnayah.content.v1.content_pb2 import PUBLISHED, Content, UpdateContentRequest

Item = dict[str, Any]

KEPT = {
    # Arabic as it is written with care.
    "tashkeel": "بِسْمِ ٱللَّهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ",
    "quran": "قُلۡ هُوَ ٱللَّهُ أَحَدٌ ۝١ ٱللَّهُ ٱلصَّمَدُ ۖ ۗ ۚ ۞",
    "tatweel": "الـــريـــاض",
    "tatweel alone": "ـ",
    "mark alone": "\u064e",
    "shadda and fatha": "\u0628\u0651\u064e",
    "fatha and shadda": "\u0628\u064e\u0651",
    "dagger alef": "هٰذا",
    "wasla": "ٱلكتاب",
    "hamzas": "ء أ إ آ ؤ ئ ئ ا\u0654 ا\u0655 ا\u0653 و\u0654 ي\u0654",
    "ta marbuta": "مكتبة مكتبه",
    "ya and alef maqsura": "مستشفى مستشفي",
    "persian": "می‌خواهم گربه پژوهش",
    "urdu": "اُردُو زبان ٹھیک ہے",
    "kurdish": "کوردی ڕۆژنامە",
    "punctuation": "قال: «نعم»، لماذا؟ ثم… ؛ ٪ ٭ ۔",
    "arabic digits": "٠١٢٣٤٥٦٧٨٩",
    "persian digits": "۰۱۲۳۴۵۶۷۸۹",
    "number signs": "١٬٢٣٤٫٥٦",
    "presentation forms": "ﺍﻟﺮﻳﺎﺽ ﻻ ﷲ ﷺ ﷽ ﭐ ﰀ",
    "ligature lam alef": "ﻻ ﻹ ﻷ ﻵ",
    "arabic and english": "برنامج Thmnayah الجديد (v2.0) على الإنترنت",
    "alphabet": "ابجدهوزحطيكلمنسعفصقرشتثخذضظغ",
    "supplement": "ݐ ݑ ݭ ࢠ ࢡ ࢲ",
    "quranic marks": "\u0628\u06d6\u0628\u06d7\u0628\u06df\u0628\u06e2\u0628\u06ed\u0628\u08f0",
    # Directions and what cannot be seen.
    "left-to-right mark": "العدد 5\u200e%",
    "right-to-left mark": "abc\u200f!",
    "arabic letter mark": "\u061c123",
    "zero width joiner": "ه\u200d",
    "zero width non-joiner": "نامه\u200cای",
    "zero width space": "a\u200bb",
    "word joiner": "a\u2060b",
    "byte order mark": "a\ufeffb",
    "soft hyphen": "Donau\u00addampf",
    "no-break space": "100\u00a0km",
    "thin spaces": "1\u2009234\u202f567",
    "ideographic space": "日本\u3000語",
    "line separator": "a\u2028b\u2029c",
    "next line": "a\u0085b",
    "spaces around": "  both sides  ",
    "variation selector": "☺\ufe0e ☺\ufe0f",
    # Composition.
    "e acute, one": "caf\u00e9",
    "e acute, two": "cafe\u0301",
    "angstrom sign": "\u212b",
    "ohm and kelvin": "\u2126 \u212a",
    "vietnamese": "Tiê\u0301ng Viê\u0323t",
    "three marks": "a\u0323\u0302\u0301",
    "three marks, other order": "a\u0301\u0302\u0323",
    "no composed form": "x\u0302 q\u0307",
    "composition exclusion": "\u0958 \ufb2c \u2adc \U0001d15e",
    "hangul jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "hangul": "한글",
    "compatibility is kept": "ﬁ ① ² ℡ Ⅻ ｆｕｌｌ ｶﾞ",
    "singletons": "\u2000 \u0340 \u0374 \u037e",
    "many marks": "Z" + "\u0335\u0321\u034a" * 20,
    "turkish": "İstanbul ıI iİ",
    "german": "Straße GROẞ",
    "greek": "Σίσυφος ς Ά Α\u0301",
    "polish": "zażółć gęślą jaźń ł",
    "dutch": "ĳ Ĳ",
    # Scripts.
    "hebrew": "שָׁלוֹם עֲלֵיכֶם",
    "syriac": "ܫܠܡܐ",
    "thaana": "ދިވެހި",
    "nko": "ߒߞߏ",
    "adlam": "𞤀𞤣𞤤𞤢𞤥",
    "amazigh": "ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "ethiopic": "አማርኛ",
    "devanagari": "हिन्दी क्षत्रिय",
    "bengali": "বাংলা ক্ষ",
    "tamil": "தமிழ் ௰",
    "telugu": "తెలుగు",
    "malayalam": "മലയാളം",
    "sinhala": "ශ්‍රී ලංකා",
    "thai": "ภาษาไทย น้ำ",
    "lao": "ພາສາລາວ",
    "burmese": "မြန်မာ",
    "khmer": "ភាសាខ្មែរ",
    "tibetan": "བོད་སྐད་",
    "georgian": "ქართული ᲥᲐᲠᲗᲣᲚᲘ",
    "armenian": "Հայերեն և",
    "russian": "Россия ёлка и\u0306",
    "mongolian": "ᠮᠣᠩᠭᠣᠯ",
    "cherokee": "ᏣᎳᎩ ꮳꮃꭹ",
    "chinese": "中文 漢字 繁體",
    "compatibility ideograph": "\uf900 豈",
    "japanese": "日本語 ひらがな カタカナ が か\u3099",
    "chinese beyond the plane": "𠮷野家 𪚥",
    "phoenician": "𐤀𐤁𐤂",
    "old south arabian": "𐩠𐩢𐩩",
    "cuneiform": "𒀀𒁀",
    "hieroglyphs": "𓀀𓁐",
    "gothic": "𐌲𐌿𐍄",
    "mathematical": "𝒜𝔅𝟙𝟚",
    "arabic mathematical": "𞸀𞸁",
    "musical": "𝄞",
    # Emoji.
    "emoji": "😀🚀❤",
    "family": "👨‍👩‍👧‍👦",
    "skin tones": "👋🏻👋🏿",
    "flag": "🇸🇦🇦🇪",
    "keycap": "1️⃣#️⃣",
    "pirate": "🏴‍☠️",
    "england": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "heart on fire": "❤️‍🔥",
    # Unassigned, private and noncharacters are text too.
    "private use": "\ue000\U000f0000\U0010fffd",
    "noncharacters": "\ufffe\uffff\U0001fffe\ufdd0",
    "unassigned": "\u0378\U000e0080",
    "replacement": "\ufffd",
    "last": "\U0010ffff",
    # What means something to others on the way.
    "quotes": "\"double\" 'single' `back`",
    "backslashes": "\\ \\n \\u0041 \\\\",
    "json": '{"a": [1, null, "b"]}',
    "html": "<b>bold</b> & &amp; &lt; <script>alert(1)</script>",
    "sql": "'; DROP TABLE contents; -- $1 %s {}",
    "like": "100% _under_ \\%",
    "url": "https://example.com/?q=%D8%A7&a=b#c",
    "percent": "%00%0a%zz",
    "header": "a: b\\r\\nc: d",
    "template": "{{7*7}} ${7*7} #{7*7} <%= 7*7 %>",
    "path": "../../etc/passwd",
    "csv": "=1+1;a,b",
    "number": "1e308",
    "null": "null",
    "true": "true",
    "escape in text": "\\x1b[31m",
    "one letter": "ا",
    "digit": "0",
}

# What may stand where there are lines: in descriptions and bodies.
LINES = {
    "lines": "one\ntwo\n\nthree",
    "windows lines": "one\r\ntwo",
    "tab": "a\tb",
    "only a line": "\n",
    "bidi controls": "abc \u202eright to left\u202c \u2066isolate\u2069 \u2067عربي\u2069",
    "override": "user\u202e\u2066// admin\u2069\u2066",
    "poem": "أَلا كُلُّ شَيءٍ ما خَلا اللَهَ باطِلُ\n\tوَكُلُّ نَعيمٍ لا مَحالَةَ زائِلُ",
}

ARABIC_MARKS = [*range(0x0610, 0x061B), *range(0x064B, 0x0660), 0x0670, *range(0x06D6, 0x06DD), *range(0x06DF, 0x06E9)]


def corpus() -> Iterator[tuple[str, str]]:
    """Each case's name and text."""
    yield from KEPT.items()
    yield from LINES.items()
    for mark in (*ARABIC_MARKS, *range(0x06EA, 0x06EE), *range(0x08E3, 0x08F0)):
        yield f"U+{mark:04X}", f"ك{chr(mark)}تاب{chr(mark)}"
    for letter in (*range(0x0671, 0x06D4), 0x06D5):  # of Persian, Urdu, Kurdish, Pashto, Sindhi, Uyghur …
        yield f"U+{letter:04X}", f"{chr(letter)} ب{chr(letter)}{chr(letter)}ب"


CORPUS = dict(corpus())
CONTROLS = [chr(code) for code in (*range(0x20), 0x7F)]
DIRECTIONS = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]


def in_title(text: str) -> bool:
    return not any(char in text for char in (*CONTROLS, *DIRECTIONS))


async def test_text_comes_back_from_everywhere_as_it_went_in(
    rest: httpx.AsyncClient, editor_token: str, word: str
) -> None:
    assert len(CORPUS) >= 300
    signed_in = {"authorization": f"Bearer {editor_token}"}
    turns = asyncio.Semaphore(8)
    wanted: dict[str, Item] = {}

    async def put(name: str, text: str) -> None:
        given = {
            "title": {"ar": text if in_title(text) else name, "en": word},
            "description": {"ar": text, "en": name},
            "body": {"ar": text, "en": f"{text}\n{text}"},
        }
        async with turns:
            made = await rest.post(
                "/v1/contents", json={"type": "article", "category": word, **given}, headers=signed_in
            )
            assert made.status_code == 200, (name, made.text)
            content_id = made.json()["id"]
            wanted[content_id] = json.loads(unicodedata.normalize("NFC", json.dumps(given, ensure_ascii=False)))
            published = await rest.post(f"/v1/contents/{content_id}:publish", json={}, headers=signed_in)
            assert published.status_code == 200, (name, published.text)
            one = (await rest.get(f"/v1/contents/{content_id}")).json()
            assert texts(one) == wanted[content_id], name

    await asyncio.gather(*(put(name, text) for name, text in CORPUS.items()))

    listed = await walk(rest, "/v1/contents", "contents", filter=f'category = "{word}"')
    assert {item["id"]: texts(item) for item in listed} == wanted

    async def search() -> list[Item]:
        return await walk(rest, "/v1/search", "results", query=word, filter=f'category = "{word}"')

    found = await eventually(search, lambda results: len(results) == len(CORPUS))
    without_body = {content_id: {**each, "body": {}} for content_id, each in wanted.items()}
    assert {str(result["content"]["id"]): texts(result["content"]) for result in found} == without_body


async def test_text_comes_back_from_the_spans_of_a_rich_text(rest: httpx.AsyncClient, editor_token: str) -> None:
    signed_in = {"authorization": f"Bearer {editor_token}"}
    spans = [[{"text": text}, {"text": text, "bold": True}] for text in CORPUS.values()]
    story = {"richText": {"blocks": [{"paragraph": {"spans": each}} for each in spans]}}
    given = {"type": "article", "title": {"ar": "ع"}, "fields": {"story": {"localized": {"values": {"ar": story}}}}}

    made = await rest.post("/v1/contents", json=given, headers=signed_in)
    assert made.status_code == 200, made.text
    path = f"/v1/contents/{made.json()['id']}"
    assert (await rest.post(f"{path}:publish", json={}, headers=signed_in)).status_code == 200
    shown = (await rest.get(path)).json()["fields"]["story"]["localized"]["values"]["ar"]["richText"]["blocks"]

    for (name, text), block in zip(CORPUS.items(), shown, strict=True):
        wanted = unicodedata.normalize("NFC", re.sub("\r\n?|[\x85\u2028\u2029]", "\n", text))
        kept = [(span["text"], span["bold"]) for span in block["paragraph"]["spans"]]
        assert kept == [(wanted, False), (wanted, True)], name


def texts(item: Item) -> Item:
    return {field: item.get(field) or {} for field in ("title", "description", "body")}


async def walk(rest: httpx.AsyncClient, path: str, field: str, **question: str) -> list[Item]:
    found: list[Item] = []
    token = ""
    while True:
        response = await rest.get(path, params={**question, "pageSize": "100", "pageToken": token})
        assert response.status_code == 200, response.text
        answer = response.json()
        found += answer[field]
        token = answer.get("nextPageToken", "")
        if not token:
            return found


async def refused_fields(rest: httpx.AsyncClient, token: str, content: dict[str, object]) -> list[str]:
    """The fields that a new item is refused for; none when it is taken."""
    answer = await rest.post(
        "/v1/contents",
        content=json.dumps({"type": "article", "title": {"en": "x"}, **content}, ensure_ascii=False),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    assert answer.status_code in (200, 400), answer.text
    return re.findall(r'"field":\s*"([^"]+)"', answer.text)


@pytest.mark.parametrize("char", CONTROLS, ids=lambda char: f"U+{ord(char):04X}")
async def test_controls_stand_nowhere_and_line_breaks_in_running_text_alone(
    rest: httpx.AsyncClient, editor_token: str, char: str
) -> None:
    text = {"en": f"a{char}b"}

    assert await refused_fields(rest, editor_token, {"title": text}) == ["content.title.en"]
    assert await refused_fields(rest, editor_token, {"category": text["en"]}) == ["content.category"]
    assert await refused_fields(rest, editor_token, {"tags": [text["en"]]}) == ["content.tags[0]"]
    assert await refused_fields(rest, editor_token, {"externalId": text["en"]}) == ["content.externalId"]
    for name in ("description", "body"):
        wanted = [] if char in "\t\n\r" else [f"content.{name}.en"]
        assert await refused_fields(rest, editor_token, {name: text}) == wanted


@pytest.mark.parametrize("char", DIRECTIONS, ids=lambda char: f"U+{ord(char):04X}")
async def test_direction_controls_stand_in_running_text_alone(
    rest: httpx.AsyncClient, editor_token: str, char: str
) -> None:
    text = {"ar": f"ا{char}ب"}

    assert await refused_fields(rest, editor_token, {"title": text}) == ["content.title.ar"]
    assert await refused_fields(rest, editor_token, {"slug": text}) == ["content.slug.ar"]
    assert await refused_fields(rest, editor_token, {"body": text}) == []


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\udfffb"', '"\\udc00\\ud800"'])
async def test_half_a_character_is_refused_or_replaced_but_breaks_nothing(
    rest: httpx.AsyncClient, editor_token: str, text: str
) -> None:
    answer = await rest.post(
        "/v1/contents",
        content=f'{{"type": "article", "title": {{"en": {text}}}}}',
        headers={"authorization": f"Bearer {editor_token}", "content-type": "application/json"},
    )

    assert answer.status_code in (200, 400)
    answer.json()


@pytest.mark.parametrize(("field", "longest"), [("title", 300), ("description", 5000), ("body", 200_000)])
@pytest.mark.parametrize("char", ["a", "ض", "€", "𐤀", "😀"])
async def test_lengths_are_counted_in_characters(
    rest: httpx.AsyncClient, editor_token: str, field: str, longest: int, char: str
) -> None:
    assert await refused_fields(rest, editor_token, {field: {"en": char * longest}}) == []
    assert await refused_fields(rest, editor_token, {field: {"en": char * (longest + 1)}}) == [f"content.{field}.en"]


async def test_what_was_stored_may_be_saved_again(rest: httpx.AsyncClient, editor_token: str) -> None:
    """Composing can make a text longer: three characters for each U+FB2C."""
    signed_in = {"authorization": f"Bearer {editor_token}"}
    made = await rest.post("/v1/contents", json={"type": "article", "title": {"en": "\ufb2c" * 200}}, headers=signed_in)

    if made.status_code == 200:
        saved = await rest.patch(
            f"/v1/contents/{made.json()['id']}", json={"title": made.json()["title"]}, headers=signed_in
        )
        assert saved.status_code == 200
    else:
        assert '"content.title.en"' in made.text


def composed(value: Any) -> Any:
    return json.loads(unicodedata.normalize("NFC", json.dumps(value, ensure_ascii=False)))


async def test_text_comes_back_from_custom_fields_and_from_the_history(admin: Rest, editing: Caller, word: str) -> None:
    group = {"group": {"fields": [field("inner"), field("more", {"list": {"item": {"text": {}}}})]}}
    listed: Item = {"list": {"item": {"text": {}}}}
    await define(
        admin, word, field("one"), field("both", localized=True), field("many", listed), field("team", group),
        field("data", {"json": {}}),
    )  # fmt: skip
    turns = asyncio.Semaphore(8)

    async def put(name: str, text: str) -> None:
        many = {"list": {"values": [{"text": text}, {"text": f"{text}{text}"}]}}
        values = {
            "one": {"text": text},
            "both": {"localized": {"values": {"ar": {"text": text}, "en": {"text": name}}}},
            "many": many,
            "team": {"group": {"values": {"inner": {"text": text}, "more": many}}},
            "data": {"json": {"text": text, text: [text, None]}},
        }
        async with turns:
            item = await make(admin, word, values)
            assert item["fields"] == composed(values), name
            path = f"contents/{item['id']}"
            await admin.ok("POST", f"{path}:publish", {})
            seen = await editing.get(item["id"], PUBLISHED)
            assert json_format.MessageToDict(seen)["fields"] == composed(values), name

            # Over gRPC with a note, and read over REST.
            changed = Content(id=item["id"], title={"en": word}, body={"ar": f"{name} {text}"}, fields=seen.fields)
            changed.fields["one"].text = f"{text} {name}"
            request = UpdateContentRequest(
                content=changed, update_mask=FieldMask(paths=["body.ar", "fields.one"]), note=text
            )
            await editing.content.UpdateContent(request, metadata=editing.metadata, timeout=20)
            revisions = (await admin.ok("GET", f"{path}/revisions"))["revisions"]
            assert composed(revisions[0]["note"]) == composed(text), name
            diff = await admin.ok("GET", f"{path}/revisions:diff")
            told = {change["field"]: change["segments"] for change in diff["changes"]}
            assert joined(told["fields.one"], "REMOVED") == composed(text), name
            assert joined(told["fields.one"], "ADDED") == composed(f"{text} {name}"), name
            assert joined(told["body"], "ADDED") == composed(f"{name} {text}"), name

            submitted = await admin.ok("POST", f"{path}:submit", {"note": text})
            assert composed(submitted["locales"]["ar"]["review"]["note"]) == composed(text), name
            again = (await editing.get(item["id"])).locales["ar"].review.note
            assert composed(again) == composed(text), name

    await asyncio.gather(*(put(name, text) for name, text in CORPUS.items()))


def joined(segments: list[Item], kind: str) -> str:
    """One side of a diff."""
    return "".join(each["text"] for each in segments if each["kind"] in ("EQUAL", kind))


async def test_text_comes_back_from_categories_and_tags(filing: Filing, admin: Rest, word: str) -> None:
    short = [text for text in CORPUS.values() if in_title(text) and len(composed(text)) <= 50]
    turns = asyncio.Semaphore(8)

    async def put(number: int, text: str) -> None:
        async with turns:
            made = await filing.create(id=f"{word}-{number}", name={"ar": text, "en": f"{word} {number}"})
            assert made.name["ar"] == composed(text)
            path = f"categories/{word}-{number}"
            assert (await admin.ok("GET", path))["name"]["ar"] == composed(text)
            tag = f"{word}{text}"
            item = await admin.ok("POST", "contents", {"type": "article", "title": {"en": word}, "tags": [tag]})
            assert item["tags"] == [composed(tag)]
            wanted = {each.name for each in await filing.tags(prefix=tag[:64], page_size=200)}
            assert composed(tag) in wanted

    await asyncio.gather(*(put(number, text) for number, text in enumerate(short)))


@pytest.mark.parametrize("char", [char for char in CONTROLS if char not in "\t\n\r"], ids=lambda c: f"U+{ord(c):04X}")
async def test_controls_stand_in_no_note(admin: Rest, editing: Caller, char: str) -> None:
    item = await editing.create()
    note = f"a{char}b"

    for path, body in (
        (f"contents/{item.id}:submit", {"note": note}),
        (f"contents/{item.id}:requestChanges", {"note": note}),
    ):
        assert violations(await admin.call("POST", path, body)).keys() == {"note"}
    request = UpdateContentRequest(content=Content(id=item.id, title={"en": "x"}), note=note)
    refusal = await refused(editing.content.UpdateContent(request, metadata=editing.metadata, timeout=10))
    assert refusal.violations.keys() == {"note"}
