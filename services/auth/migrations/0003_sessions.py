"""What people know their sessions by, how long they may last, which tokens to refuse, and when keys are used."""

from libs import migrations

revision = "0003"
down_revision = "0002"

SQL = """
-- The number in the claim `epoch` of a user's tokens: a change of roles, password or state makes it larger.
ALTER TABLE users ADD COLUMN epoch integer NOT NULL DEFAULT 0;

ALTER TABLE sessions
    ADD COLUMN device_name text NOT NULL DEFAULT '',
    ADD COLUMN user_agent text NOT NULL DEFAULT '',
    ADD COLUMN last_used_time timestamptz NOT NULL DEFAULT now(),
    -- The end that no use puts off.
    ADD COLUMN final_time timestamptz NOT NULL DEFAULT now() + interval '30 days',
    -- When the last of its access tokens ends by itself; of an older release's sessions, at the latest.
    ADD COLUMN token_expire_time timestamptz NOT NULL DEFAULT now() + interval '1 day';

-- Access tokens to refuse until they end by themselves: those of a session, or a user's with a smaller epoch.
-- No foreign keys: a deleted user's tokens are refused too.
CREATE TABLE revocations (
    id uuid PRIMARY KEY,
    session_id uuid,
    user_id uuid,
    epoch integer NOT NULL DEFAULT 0,
    expire_time timestamptz NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((session_id IS NULL) <> (user_id IS NULL))
);
CREATE INDEX revocations_create_time ON revocations (create_time);

-- From when on tokens are signed with the key; it is published before.
ALTER TABLE signing_keys ADD COLUMN use_time timestamptz NOT NULL DEFAULT now();
"""


def upgrade() -> None:
    migrations.run_script(SQL)
