"""What the index holds of each document as numbers: reading and writing it as JSON was a third of its work."""

from libs import migrations

revision = "0003"
down_revision = "0002"

SQL = """
ALTER TABLE documents
    -- Its postings as of a version; see services/search/documents.py. It takes the place of postings and
    -- postings_version, which only the release before this one reads.
    ADD COLUMN packed bytea;
"""


def upgrade() -> None:
    migrations.run_script(SQL)
