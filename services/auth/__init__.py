"""Auth: owns users, sessions and signing keys, publishes `user.*`, consumes nothing."""
