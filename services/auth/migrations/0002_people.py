"""States and profiles of accounts, codes and mails, and counts of failed sign-ins."""

from libs import migrations

revision = "0002"
down_revision = "0001"

SQL = """
ALTER TABLE users
    ADD COLUMN state text NOT NULL DEFAULT 'ACTIVE',
    ADD COLUMN locale text NOT NULL DEFAULT 'ar',
    ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    -- An account that is invited or registered has no password yet; a deleted one has no address.
    -- The code before this reads none as a wrong password, and no key as no such address.
    -- squawk-ignore ban-drop-not-null
    ALTER COLUMN password_hash DROP NOT NULL,
    -- squawk-ignore ban-drop-not-null
    ALTER COLUMN email_key DROP NOT NULL;

-- What was mailed to prove an address or to reset a password; only its SHA-256 is kept.
CREATE TABLE password_codes (
    hash bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expire_time timestamptz NOT NULL
);
CREATE INDEX password_codes_user_id ON password_codes (user_id);

-- Mails to send. What they say, codes too, is made when they are sent. One that was sent stays for a while, so
-- that no address gets many.
CREATE TABLE mails (
    email_key text NOT NULL,
    kind text NOT NULL,
    -- When it is tried next; a crash between sending and noting that it was sent repeats it.
    due_time timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    done_time timestamptz,
    PRIMARY KEY (email_key, kind)
);
CREATE INDEX mails_due ON mails (due_time) WHERE done_time IS NULL;

-- Failed sign-ins in a row, of an address or a device; a key is the SHA-256 of either.
CREATE TABLE failed_sign_ins (
    key bytea PRIMARY KEY,
    failures integer NOT NULL,
    -- No attempt is looked at before.
    next_time timestamptz NOT NULL
);
CREATE INDEX failed_sign_ins_next_time ON failed_sign_ins (next_time);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
