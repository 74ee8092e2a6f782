"""Content: owns items and their slugs, publishes `content.*`, consumes nothing."""
