"""Changes of e-mail addresses, mails to addresses that no account has, and what providers are called."""

from libs import migrations

revision = "0009"
down_revision = "0008"

SQL = """
-- An address that a person is to have once they show that they read it.
CREATE TABLE email_changes (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    email text NOT NULL,
    email_key text NOT NULL,
    -- SHA-256 of the code; none before it is mailed.
    hash bytea,
    expire_time timestamptz NOT NULL
);
CREATE INDEX email_changes_email_key ON email_changes (email_key);
CREATE INDEX email_changes_expire_time ON email_changes (expire_time);

-- For a mail about an address that is not its receiver's account's, or no longer so: where it goes as it was
-- written, and in which language.
ALTER TABLE mails
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN locale text NOT NULL DEFAULT '';

-- By locale.
ALTER TABLE oidc_providers ADD COLUMN display_name jsonb NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    migrations.run_script(SQL)
