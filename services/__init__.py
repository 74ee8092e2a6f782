"""The services: each owns its folder, its database and its events, and imports no other."""
