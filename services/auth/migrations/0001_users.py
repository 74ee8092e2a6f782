"""Users, their sessions and refresh tokens, the keys tokens are signed with, and the outbox."""

from libs import migrations, outbox

revision = "0001"
down_revision = None

SQL = """
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    -- The address as it is compared: NFKC and case folded.
    email_key text NOT NULL UNIQUE,
    display_name text NOT NULL,
    roles text[] NOT NULL,
    password_hash text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz NOT NULL,
    end_time timestamptz
);
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_expire_time ON sessions (expire_time);

-- Only the SHA-256 of a token is kept: 256 random bits need no slower hash.
CREATE TABLE refresh_tokens (
    hash bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expire_time timestamptz NOT NULL,
    used_time timestamptz
);
CREATE INDEX refresh_tokens_session_id ON refresh_tokens (session_id);

CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    -- The public half: {"crv": …, "x": …, "y": …}.
    public jsonb NOT NULL,
    -- The private half as PKCS #8, encrypted with AES-256-GCM under the installation's secret key.
    sealed bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    migrations.run_script(outbox.CREATE_TABLE)
