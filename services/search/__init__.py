"""Search: owns an index of what is published, consumes `content.*`, publishes nothing yet."""
