"""Providers that people sign in by, sign-ins that are under way, and whose which identity is."""

from libs import migrations

revision = "0007"
down_revision = "0006"

SQL = """
CREATE TABLE oidc_providers (
    id text PRIMARY KEY,
    issuer text NOT NULL,
    client_id text NOT NULL,
    -- Encrypted with AES-256-GCM under the installation's secret key.
    client_secret bytea NOT NULL,
    scopes text[] NOT NULL,
    redirect_uris text[] NOT NULL,
    groups_claim text NOT NULL,
    -- {"group": "role"}.
    group_roles jsonb NOT NULL,
    create_users boolean NOT NULL,
    enabled boolean NOT NULL,
    version integer NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);

-- Its state, nonce and PKCE verifier are made of the secret, so that none of them is kept.
CREATE TABLE oidc_logins (
    -- SHA-256 of the secret that its beginner keeps.
    hash bytea PRIMARY KEY,
    provider_id text NOT NULL REFERENCES oidc_providers (id) ON DELETE CASCADE,
    redirect_uri text NOT NULL,
    -- The one that an identity is to be linked in; none in a sign-in.
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    -- What the session that it leads to is begun on.
    device_name text NOT NULL,
    browser boolean NOT NULL,
    expire_time timestamptz NOT NULL
);
CREATE INDEX oidc_logins_provider_id ON oidc_logins (provider_id);
CREATE INDEX oidc_logins_session_id ON oidc_logins (session_id);
CREATE INDEX oidc_logins_expire_time ON oidc_logins (expire_time);

CREATE TABLE identities (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    issuer text NOT NULL,
    subject text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    use_time timestamptz,
    UNIQUE (issuer, subject)
);
CREATE INDEX identities_user_id ON identities (user_id);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
