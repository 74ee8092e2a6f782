"""Alembic's environment for every service: revisions are SQL, so there is no metadata to compare with."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:  # `--sql`: print the statements for a database administrator, or for squawk
    context.configure(dialect_name="postgresql", literal_binds=True)
else:
    context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
