"""What was done and refused, linked into a chain; service accounts and API keys."""

from libs import events, migrations

revision = "0005"
down_revision = "0004"

SQL = """
CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    event_time timestamptz NOT NULL,
    -- The id of a user, as the token said; empty for who had none and for the platform itself.
    actor text NOT NULL,
    session text NOT NULL,
    request_id text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('OK', 'DENIED', 'FAILED')),
    -- Kind and id, such as user/0190b0a0-…
    target text NOT NULL,
    client_address text NOT NULL,
    user_agent text NOT NULL,
    details jsonb NOT NULL
);
CREATE INDEX audit_events_event_time ON audit_events (event_time, id);
CREATE INDEX audit_events_actor ON audit_events (actor, event_time, id);
CREATE INDEX audit_events_target ON audit_events (target, event_time, id);

-- The chain. A table of its own, so that no row is ever changed. No reference to the events: it would need
-- the right to change them.
CREATE TABLE audit_links (
    position bigint PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    -- SHA-256 of the hash before it and of the event.
    hash bytea NOT NULL
);

-- Events that wait for their link, in the order they were written; only this table loses rows.
CREATE TABLE audit_unlinked (
    event_id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE insufficient_privilege USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_links
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON audit_events, audit_links FROM CURRENT_USER;

-- A service account is a user that has no password and no address, so that nobody signs in as it.
ALTER TABLE users ADD COLUMN service_account boolean NOT NULL DEFAULT false;

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    display_name text NOT NULL,
    scopes text[] NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz,
    last_used_time timestamptz
);
CREATE INDEX api_keys_user_id ON api_keys (user_id, id);

-- Two of a key while it is rotated. Only the SHA-256 is kept: 256 random bits need no slower hash.
CREATE TABLE api_key_secrets (
    hash bytea PRIMARY KEY,
    key_id uuid NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    -- What people recognise it by.
    prefix text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    -- When a newer one has replaced it.
    expire_time timestamptz
);
CREATE INDEX api_key_secrets_key_id ON api_key_secrets (key_id);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
    migrations.run_script(events.CREATE_TABLE)
