"""A rich text for the types of the platform that are read."""

import json
from typing import Any

from libs import migrations

revision = "0008"
down_revision = "0007"

STORY: dict[str, Any] = {
    "id": "story",
    "name": "story",
    "title": {"ar": "المتن", "en": "Story"},
    "kind": {"rich_text": {}},
    "localized": True,
}

# Whoever made a field of that name keeps it. 100 fields are the most that a type may have.
SQL = f"""
UPDATE content_types
SET definition = jsonb_set(definition, '{{fields}}', coalesce(definition -> 'fields', '[]') || '{json.dumps(STORY, ensure_ascii=False)}'),
    version = version + 1, update_time = now()
WHERE built_in AND id IN ('programme', 'episode', 'documentary', 'article', 'page')
  AND jsonb_array_length(coalesce(definition -> 'fields', '[]')) < 100
  AND NOT EXISTS (
      SELECT FROM jsonb_array_elements(definition -> 'fields') AS field
      WHERE 'story' IN (field ->> 'id', field ->> 'name')
  );
"""  # noqa: E501 — it is printed for database administrators as it is


def upgrade() -> None:
    migrations.run_script(SQL)
