"""What locales are called and what stands in for them, the tree of categories, and tags found by an index."""

from alembic import op

from libs import migrations

revision = "0004"
down_revision = "0003"

SQL = """
ALTER TABLE locales
    ADD COLUMN name jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN rtl boolean NOT NULL DEFAULT false,
    -- The locales that stand in for it, best first.
    ADD COLUMN fallback text[] NOT NULL DEFAULT '{}',
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN create_time timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN update_time timestamptz NOT NULL DEFAULT now();
UPDATE locales SET name = '{"ar": "العربية", "en": "Arabic"}', rtl = true, fallback = '{en}' WHERE code = 'ar';
UPDATE locales SET name = '{"ar": "الإنجليزية", "en": "English"}', fallback = '{ar}' WHERE code = 'en';

CREATE TABLE categories (
    id text PRIMARY KEY,
    parent_id text REFERENCES categories (id),
    -- The ids from the root to this one: what lies below a category has it in its path.
    path text[] NOT NULL,
    -- Equal ones follow their ids. The default is for those that nobody has placed.
    position integer NOT NULL DEFAULT 2147483647,
    name jsonb NOT NULL,
    slug jsonb NOT NULL,
    version integer NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX categories_parent_id ON categories (parent_id);
CREATE INDEX categories_path ON categories USING gin (path);

CREATE TABLE category_slugs (
    -- Empty at the root, so that slugs are unique there too.
    parent_id text NOT NULL,
    locale text NOT NULL,
    slug text NOT NULL,
    category_id text NOT NULL REFERENCES categories (id) ON DELETE CASCADE,
    PRIMARY KEY (parent_id, locale, slug)
);
CREATE INDEX category_slugs_category_id ON category_slugs (category_id);

-- Tags that are being replaced: what was cut short may go on, and is announced once it is done.
CREATE TABLE tag_replacements (
    tag text NOT NULL,
    new_tag text NOT NULL,
    PRIMARY KEY (tag, new_tag)
);

-- In which locales readers see an item.
ALTER TABLE publications ADD COLUMN locales text[] NOT NULL DEFAULT '{}';
UPDATE publications SET locales = ARRAY(SELECT jsonb_object_keys(published)) FROM contents
WHERE contents.id = publications.id;
"""

# Beside the traffic: each waits for no writer and stops none.
INDEXES = """
CREATE INDEX CONCURRENTLY IF NOT EXISTS contents_category ON contents (category) WHERE delete_time IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS publications_category ON publications (category);
CREATE INDEX CONCURRENTLY IF NOT EXISTS contents_tags ON contents USING gin (tags) WHERE delete_time IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS publications_tags ON publications USING gin (tags);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    with op.get_context().autocommit_block():
        migrations.run_script(INDEXES)
