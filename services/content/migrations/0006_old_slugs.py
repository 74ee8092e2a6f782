"""Slugs that readers knew items by."""

from libs import migrations

revision = "0006"
down_revision = "0005"

SQL = """
-- Each leads to its item, the last that had it, as long as none that is published has it. It stays
-- claimed in `slugs` too, until another item is given it.
CREATE TABLE old_slugs (
    type text NOT NULL,
    locale text NOT NULL,
    slug text NOT NULL,
    content_id uuid NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
    -- When the item had it last, or began to give it up.
    had_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (type, locale, slug, content_id)
);
CREATE INDEX old_slugs_content_id ON old_slugs (content_id);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
