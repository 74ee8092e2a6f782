"""Comments on items, what translations were made from, and the locales of what an older release publishes."""

from alembic import op

from libs import migrations

revision = "0007"
down_revision = "0006"

SQL = """
-- What texts say the same as, where it is not what they were when they were last changed:
-- {"title.ar": {"locale": "en", "version": 5}}.
ALTER TABLE contents ADD COLUMN sources jsonb NOT NULL DEFAULT '{}';

CREATE TABLE comments (
    id uuid PRIMARY KEY,
    content_id uuid NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
    -- The thread's first comment; of that one, itself.
    thread_id uuid NOT NULL REFERENCES comments (id) ON DELETE CASCADE,
    text text NOT NULL,
    -- The ids of users.
    mentions text[] NOT NULL,
    -- What a first comment is about: `title`, `fields.f1` by the field's id, '' for the whole item; one
    -- locale of it, '' for all; a block of it.
    field text NOT NULL,
    locale text NOT NULL,
    block_id text NOT NULL,
    quote text NOT NULL,
    quote_start integer NOT NULL,
    -- That of the item.
    revision integer NOT NULL,
    -- Of a first comment.
    resolved_by text,
    resolve_time timestamptz,
    created_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    edit_time timestamptz,
    delete_time timestamptz,
    version integer NOT NULL DEFAULT 1
);
CREATE INDEX comments_content_id ON comments (content_id, thread_id, id);
CREATE INDEX comments_thread_id ON comments (thread_id);
CREATE INDEX comments_mentions ON comments USING gin (mentions);
"""

# A release from before `publications.locales` leaves it empty, or as it was, while it still runs.
FUNCTION = """
CREATE FUNCTION keep_published_locales() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE publications SET locales = shown.locales
    FROM (
        SELECT ARRAY(SELECT key FROM jsonb_object_keys(NEW.published) AS key ORDER BY key COLLATE "C")
    ) AS shown (locales)
    WHERE id = NEW.id AND publications.locales <> shown.locales;
    RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE TRIGGER keep_published_locales AFTER UPDATE OF published ON contents
FOR EACH ROW WHEN (NEW.published IS DISTINCT FROM OLD.published)
EXECUTE FUNCTION keep_published_locales();
UPDATE publications SET locales = ARRAY(SELECT jsonb_object_keys(published) ORDER BY 1) FROM contents
WHERE contents.id = publications.id AND publications.locales = '{}';
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    op.execute(FUNCTION)
    migrations.run_script(TRIGGER)
