"""Which item refers to which, in drafts and in what is published, and publishes that wait for others."""

from alembic import op

from libs import migrations

revision = "0005"
down_revision = "0004"

SQL = """
-- A table for each side, so that a statement for readers cannot reach a draft.
CREATE TABLE draft_references (
    from_id uuid NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
    -- The ids of the field and of those in its groups: "f1", "f1.f3".
    path text NOT NULL,
    locale text NOT NULL,
    -- Without a foreign key: a reference stays when what it refers to is gone, and is told as broken.
    to_id uuid NOT NULL,
    PRIMARY KEY (to_id, from_id, path, locale)
);
CREATE INDEX draft_references_from_id ON draft_references (from_id);

CREATE TABLE publication_references (
    from_id uuid NOT NULL REFERENCES publications (id) ON DELETE CASCADE,
    path text NOT NULL,
    locale text NOT NULL,
    to_id uuid NOT NULL,
    PRIMARY KEY (to_id, from_id, path, locale)
);
CREATE INDEX publication_references_from_id ON publication_references (from_id);

-- A publish that waits for what the item refers to: {"locales": ["ar"], "problem": "", …}.
ALTER TABLE contents ADD COLUMN waiting jsonb;

-- While there is a row, items after this id are still to be looked through: see references.backfill.
CREATE TABLE reference_backfill (
    after_id uuid PRIMARY KEY
);
INSERT INTO reference_backfill (after_id)
SELECT '00000000-0000-0000-0000-000000000000' WHERE EXISTS (SELECT FROM contents);
"""

# Beside the traffic: it waits for no writer and stops none.
INDEXES = """
CREATE INDEX CONCURRENTLY IF NOT EXISTS contents_waiting ON contents (id) WHERE waiting->>'problem' = '';
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    with op.get_context().autocommit_block():
        migrations.run_script(INDEXES)
