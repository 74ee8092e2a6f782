"""Who was provisioned by SCIM, groups, and the roles that people have by them."""

from libs import migrations

revision = "0008"
down_revision = "0007"

SQL = """
ALTER TABLE users
    -- Those of the user's groups, kept here so that a sign-in reads one row.
    ADD COLUMN group_roles text[] NOT NULL DEFAULT '{}',
    ADD COLUMN update_time timestamptz NOT NULL DEFAULT now();

CREATE FUNCTION note_update_time() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.update_time := now(); RETURN NEW; END $$;
CREATE TRIGGER note_update_time BEFORE UPDATE OF version ON users FOR EACH ROW EXECUTE FUNCTION note_update_time();

-- Only these people can be seen and changed by SCIM.
CREATE TABLE provisioned_users (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    user_name text NOT NULL,
    user_name_key text NOT NULL UNIQUE,
    -- The provisioner's own; it may give two people the same.
    external_id text,
    formatted_name text,
    given_name text,
    family_name text,
    -- Whether the account is closed because the provisioner said so: what an administrator closed it cannot open.
    deactivated boolean NOT NULL
);
CREATE INDEX provisioned_users_external_id ON provisioned_users (external_id);

CREATE TABLE groups (
    id uuid PRIMARY KEY,
    external_id text,
    display_name text NOT NULL,
    display_name_key text NOT NULL UNIQUE,
    -- Given by administrators, never by a provisioner.
    roles text[] NOT NULL DEFAULT '{}',
    version integer NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX groups_external_id ON groups (external_id);

CREATE TABLE group_members (
    group_id uuid NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user_id ON group_members (user_id);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
