"""What the index holds of each document stands beside it, so that only what differs is written again."""

from libs import migrations

revision = "0002"
down_revision = "0001"

SQL = """
ALTER TABLE documents
    -- By locale, [term_id, frequency, place] of each term.
    ADD COLUMN postings jsonb NOT NULL DEFAULT '{}',
    -- The version that they are of: a release that knows nothing of them leaves an older one.
    ADD COLUMN postings_version integer NOT NULL DEFAULT 0;
"""


def upgrade() -> None:
    migrations.run_script(SQL)
