"""Alembic's environment, shared by the services; their revisions are in their own folders."""
