"""The way of each locale to its readers, the history of every item, the trash, and what is scheduled."""

from alembic import op

from libs import migrations

revision = "0002"
down_revision = "0001"

SQL = """
ALTER TABLE contents
    -- Where a locale's draft is, when it is no longer with its authors alone:
    -- {"ar": {"stage": "IN_REVIEW", "revision": 7, …}}.
    ADD COLUMN reviews jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN archived text[] NOT NULL DEFAULT '{}',
    -- The version that last changed each text: {"title.ar": 3, "tags": 2}.
    ADD COLUMN changes jsonb NOT NULL DEFAULT '{}',
    -- Locales that hold a text whose counterpart in another locale is newer.
    ADD COLUMN stale text[] NOT NULL DEFAULT '{}',
    -- The number of the newest revision.
    ADD COLUMN revision integer NOT NULL DEFAULT 1,
    -- What is to happen, as a list, and when the first of it is.
    ADD COLUMN schedules jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN next_schedule timestamptz,
    -- A deleted item's end.
    ADD COLUMN expire_time timestamptz;

-- Since when a locale is published, and from which version: {"ar": {"time": "…", "version": 2}}.
UPDATE contents
SET published = (
    SELECT jsonb_object_agg(key, jsonb_build_object('time', value, 'version', version)) FROM jsonb_each(published)
)
WHERE published <> '{}';

CREATE TABLE revisions (
    content_id uuid NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
    -- The version of the item that the save made.
    number integer NOT NULL,
    author text NOT NULL,
    note text NOT NULL,
    autosave boolean NOT NULL,
    create_time timestamptz NOT NULL,
    -- The draft in every locale, as a thmnayah.content.v1.Content.
    content bytea NOT NULL,
    PRIMARY KEY (content_id, number)
);
"""

# Beside the traffic: each waits for no writer and stops none.
INDEXES = """
CREATE INDEX CONCURRENTLY IF NOT EXISTS contents_next_schedule ON contents (next_schedule)
    WHERE next_schedule IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS contents_expire_time ON contents (expire_time)
    WHERE expire_time IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS contents_stale ON contents USING gin (stale) WHERE stale <> '{}';
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    with op.get_context().autocommit_block():
        migrations.run_script(INDEXES)
