"""What is kept of a secret."""

import hashlib


def digest(secret: str) -> bytes:
    """The SHA-256 of at least 112 random bits: what nobody can guess needs no slower hash."""
    return hashlib.sha256(secret.encode()).digest()
