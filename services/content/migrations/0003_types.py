"""Content types, those that come with the platform, and the custom fields of items."""

import json
from typing import Any

from libs import migrations

revision = "0003"
down_revision = "0002"

SQL = """
CREATE TABLE content_types (
    id text PRIMARY KEY,
    -- A thmnayah.content.v1.ContentType as JSON: its name, description, fields and workflow.
    definition jsonb NOT NULL,
    built_in boolean NOT NULL DEFAULT false,
    version integer NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);

-- By field id and locale, "" for none: {"f1": {"": {"number": 3.0}}, "f2": {"ar": {"text": "…"}}}.
ALTER TABLE contents ADD COLUMN fields jsonb NOT NULL DEFAULT '{}';

-- What no two items of a type may hold, by its digest: an index takes no long text.
CREATE TABLE unique_values (
    type text NOT NULL,
    field text NOT NULL,
    locale text NOT NULL,
    digest bytea NOT NULL,
    -- Checked at commit: an item's values are claimed before it is stored.
    content_id uuid NOT NULL REFERENCES contents (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (type, field, locale, digest)
);
CREATE INDEX unique_values_content_id ON unique_values (content_id);
"""

Json = dict[str, Any]

TEXT: Json = {"text": {"max_length": 300}}
LONG_TEXT: Json = {"text": {"max_length": 5000}}
NUMBER: Json = {"number": {"min": 1, "whole": True}}
YEAR: Json = {"number": {"min": 1800, "max": 2200, "whole": True}}
PEOPLE: Json = {"list": {"item": {"reference": {"types": ["person"]}}, "max_items": 100}}


def field(name: str, arabic: str, english: str, kind: Json, **settings: Any) -> Json:
    """A field whose id is the name it has from the start."""
    return {"id": name, "name": name, "title": {"ar": arabic, "en": english}, "kind": kind, **settings}


def reference(kind: str) -> Json:
    return {"reference": {"types": [kind]}}


SYNOPSIS = field("synopsis", "الملخص", "Synopsis", LONG_TEXT, localized=True)
DURATION = field("duration", "المدة", "Duration", {"duration": {}})
PRESENTERS = field("presenters", "المقدمون", "Presenters", PEOPLE)
RELEASE = field("releaseYear", "سنة الإصدار", "Release year", YEAR)

TYPES: dict[str, tuple[str, str, list[Json]]] = {
    "programme": ("برنامج", "Programme", [SYNOPSIS, PRESENTERS, RELEASE]),
    "season": (
        "موسم",
        "Season",
        [
            field("programme", "البرنامج", "Programme", reference("programme")),
            field("number", "الرقم", "Number", NUMBER),
            SYNOPSIS,
            RELEASE,
        ],
    ),
    "episode": (
        "حلقة",
        "Episode",
        [
            field("season", "الموسم", "Season", reference("season")),
            field("number", "الرقم", "Number", NUMBER),
            DURATION,
            SYNOPSIS,
            PRESENTERS,
            field("guests", "الضيوف", "Guests", PEOPLE),
            field("airTime", "وقت العرض", "Air time", {"date_time": {}}),
        ],
    ),
    "documentary": (
        "وثائقي",
        "Documentary",
        [SYNOPSIS, DURATION, field("directors", "المخرجون", "Directors", PEOPLE), RELEASE],
    ),
    "article": (
        "مقال",
        "Article",
        [
            field("subtitle", "العنوان الفرعي", "Subtitle", TEXT, localized=True),
            field("authors", "الكتّاب", "Authors", PEOPLE),
        ],
    ),
    "person": (
        "شخص",
        "Person",
        [
            field("role", "الدور", "Role", TEXT, localized=True),
            field("biography", "السيرة", "Biography", LONG_TEXT, localized=True),
        ],
    ),
    "page": (
        "صفحة",
        "Page",
        [field("subtitle", "العنوان الفرعي", "Subtitle", TEXT, localized=True)],
    ),
}


def built_in() -> str:
    """The statement that makes the types of the platform; no name has a quote in it."""
    rows = [f"('{name}', '{json.dumps(definition(name), ensure_ascii=False)}', true)" for name in TYPES]
    return "INSERT INTO content_types (id, definition, built_in) VALUES\n" + ",\n".join(rows) + ";\n"


def definition(name: str) -> Json:
    arabic, english, fields = TYPES[name]
    return {"id": name, "name": {"ar": arabic, "en": english}, "fields": fields}


def upgrade() -> None:
    migrations.run_script(SQL)
    migrations.run_script(built_in())
