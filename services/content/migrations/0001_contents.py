"""Contents, what is published of them, their slugs, the locales, and the outbox."""

from libs import migrations, outbox

revision = "0001"
down_revision = None

SQL = """
CREATE TABLE locales (
    code text PRIMARY KEY
);
INSERT INTO locales (code) VALUES ('ar'), ('en');

-- What editors work on. Maps are {"ar": "…", "en": "…"}.
CREATE TABLE contents (
    id uuid PRIMARY KEY,
    type text NOT NULL,
    slug jsonb NOT NULL,
    title jsonb NOT NULL,
    description jsonb NOT NULL,
    body jsonb NOT NULL,
    category text,
    tags text[] NOT NULL,
    external_id text,
    -- When each published locale was: {"ar": "2026-01-31T09:00:00+00:00"}.
    published jsonb NOT NULL DEFAULT '{}',
    version integer NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    publish_time timestamptz,
    created_by text NOT NULL,
    delete_time timestamptz
);
CREATE UNIQUE INDEX contents_external_id ON contents (external_id) WHERE delete_time IS NULL;
CREATE INDEX contents_create_time ON contents (create_time, id) WHERE delete_time IS NULL;
CREATE INDEX contents_update_time ON contents (update_time, id) WHERE delete_time IS NULL;
CREATE INDEX contents_type ON contents (type, create_time, id) WHERE delete_time IS NULL;

-- What readers see, in a table of its own, so that a statement for readers cannot reach a draft.
CREATE TABLE publications (
    id uuid PRIMARY KEY REFERENCES contents (id) ON DELETE CASCADE,
    type text NOT NULL,
    category text,
    tags text[] NOT NULL,
    external_id text,
    version integer NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    publish_time timestamptz NOT NULL,
    -- The whole item as a thmnayah.content.v1.Content, published locales alone.
    content bytea NOT NULL
);
CREATE INDEX publications_create_time ON publications (create_time, id);
CREATE INDEX publications_update_time ON publications (update_time, id);
CREATE INDEX publications_publish_time ON publications (publish_time, id);
CREATE INDEX publications_type ON publications (type, create_time, id);

CREATE TABLE slugs (
    type text NOT NULL,
    locale text NOT NULL,
    slug text NOT NULL,
    -- Checked at commit: an item's slugs are claimed before it is stored.
    content_id uuid NOT NULL REFERENCES contents (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (type, locale, slug)
);
CREATE INDEX slugs_content_id ON slugs (content_id);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    migrations.run_script(outbox.CREATE_TABLE)
