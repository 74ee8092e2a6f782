"""Second factors, the challenges they are proved by, and what each role demands."""

from libs import migrations

revision = "0006"
down_revision = "0005"

SQL = """
CREATE TABLE totp_factors (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- Encrypted with AES-256-GCM under the installation's secret key.
    seed bytea NOT NULL,
    -- In units of 30 seconds since 1970: of the last code that was taken. Only later ones are.
    last_step bigint NOT NULL,
    -- Wrong codes since tries_time.
    tries bigint NOT NULL DEFAULT 0,
    tries_time timestamptz NOT NULL DEFAULT now(),
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE passkeys (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id bytea NOT NULL UNIQUE,
    -- As COSE writes it.
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    name text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    use_time timestamptz
);
CREATE INDEX passkeys_user_id ON passkeys (user_id);

-- A code that was used is gone. Only SHA-256 is kept: 120 random bits need no slower hash.
CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash bytea NOT NULL,
    PRIMARY KEY (user_id, hash)
);

CREATE TABLE mfa_challenges (
    -- SHA-256 of what its holder knows.
    hash bytea PRIMARY KEY,
    purpose text NOT NULL CHECK (purpose IN ('sign_in', 'passkey_login', 'enrolment')),
    -- Nobody's yet in a sign-in by passkey alone.
    user_id uuid REFERENCES users (id) ON DELETE CASCADE,
    -- The session it was asked for in; none in a sign-in.
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    -- What a passkey has to sign.
    nonce bytea NOT NULL,
    -- Of an authenticator app that is being added, encrypted like totp_factors.seed.
    seed bytea,
    tries bigint NOT NULL DEFAULT 0,
    -- What the session that it leads to is begun on.
    device_name text NOT NULL,
    browser boolean NOT NULL,
    expire_time timestamptz NOT NULL
);
CREATE INDEX mfa_challenges_user_id ON mfa_challenges (user_id);
CREATE INDEX mfa_challenges_session_id ON mfa_challenges (session_id);
CREATE INDEX mfa_challenges_expire_time ON mfa_challenges (expire_time);

CREATE TABLE mfa_rules (
    role text PRIMARY KEY,
    -- The number of a Requirement in mfa.proto: a greater one demands more.
    requirement bigint NOT NULL
);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
