"""Content: owns items, their slugs and their types, publishes `content.*` and `contentType.*`, consumes nothing."""
