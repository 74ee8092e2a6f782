"""The index: documents, the terms of each locale, and in which documents each term stands."""

from libs import events, migrations

revision = "0001"
down_revision = None

SQL = """
-- One row for each item ever seen. An item that is no longer published keeps its row without
-- content, so that a late event cannot bring it back.
CREATE TABLE documents (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content_id uuid NOT NULL UNIQUE,
    version integer NOT NULL,
    type text,
    category text,
    tags text[] NOT NULL DEFAULT '{}',
    publish_time timestamptz,
    -- A thmnayah.content.v1.Content as readers see it.
    content bytea,
    -- What the index holds of it, to be taken out again: its terms, and its length in each locale.
    term_ids integer[] NOT NULL DEFAULT '{}',
    lengths jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE terms (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    term text NOT NULL,
    locale text NOT NULL,
    -- In how many documents it stands.
    documents integer NOT NULL DEFAULT 0,
    -- Counts the changes of its postings, so that a process knows whether those it remembers still hold.
    version integer NOT NULL DEFAULT 0,
    UNIQUE (term, locale)
) WITH (fillfactor = 80);

CREATE TABLE postings (
    term_id integer NOT NULL,
    document_id integer NOT NULL,
    -- How often the term stands in the document's text of the term's locale.
    frequency real NOT NULL,
    -- Of that text, in terms.
    length real NOT NULL,
    -- Where the term stands first in the body, in code points; -1 when it does not.
    place integer NOT NULL,
    PRIMARY KEY (term_id, document_id) INCLUDE (frequency, length, place)
);
-- Answers come from the index alone, which needs the table to be vacuumed early.
ALTER TABLE postings SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE locales (
    code text PRIMARY KEY,
    -- Documents with a text in this locale, and the lengths of those texts together.
    documents integer NOT NULL,
    length bigint NOT NULL
);

-- One row, counted up with each change, so that a process knows whether what it remembers still holds.
CREATE TABLE state (
    version bigint NOT NULL
);
INSERT INTO state (version) VALUES (0);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    migrations.run_script(events.CREATE_TABLE)
