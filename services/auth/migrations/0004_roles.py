"""Roles that an installation defines; `admin` is called `administrator`."""

from libs import migrations

revision = "0004"
down_revision = "0003"

SQL = """
CREATE TABLE roles (
    id text PRIMARY KEY,
    name jsonb NOT NULL,
    description jsonb NOT NULL,
    -- thmnayah.auth.v1.Grant as JSON: [{"permission": "content.update", "types": ["article"]}, …].
    grants jsonb NOT NULL,
    version integer NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);

-- One row: how many changes of roles there were. Locked by each, so that its versions are in order.
CREATE TABLE roles_version (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    version bigint NOT NULL
);
INSERT INTO roles_version (version) VALUES (1);

UPDATE users SET roles = ARRAY(
    SELECT DISTINCT CASE role WHEN 'admin' THEN 'administrator' ELSE role END FROM unnest(roles) AS role
)
WHERE 'admin' = ANY(roles);
"""


def upgrade() -> None:
    migrations.run_script(SQL)
