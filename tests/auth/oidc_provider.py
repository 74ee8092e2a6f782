"""An OpenID Connect provider on loopback, which can be told to lie."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, REDIRECT_URI = "thmnayah client", "https://studio.example.com/callback"


@dataclass
class Provider:
    """What it knows, and how it lies."""

    issuer: str = ""
    client_secret: str = field(default_factory=lambda: f"Canary7:{secrets.token_hex(8)}/%")
    kid: str = "first"
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """The parameters of the authorization request that each code is of; each is good once."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Of the ID token, over those that are right."""
    dropped: tuple[str, ...] = ()
    headers: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    key: Any = None
    """That the ID token is signed with instead of the published one."""
    metadata: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """What paths answer instead."""
    told: list[str] = field(default_factory=list)
    """The ID tokens that it gave."""
    asked: list[str] = field(default_factory=list)
    """The paths that were called."""
    own_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def consent(self, uri: str) -> dict[str, str]:
        """What the person comes back with from an address that was given for it."""
        asked = dict(parse_qsl(urlsplit(uri).query, strict_parsing=True))
        assert uri.startswith(f"{self.issuer}/authorize?")
        assert (asked["client_id"], asked["response_type"]) == (CLIENT_ID, "code")
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return {"state": asked["state"], "code": code}

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
        } | self.metadata

    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [jwt.algorithms.RSAAlgorithm.to_jwk(self.own_key.public_key(), as_dict=True) | {"kid": self.kid}]
        }

    def trade(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form.get("code", ""), None)
        if authorization:
            name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            client = (unquote(name), unquote(secret))
        else:
            client = (form.get("client_id", ""), form.get("client_secret", ""))
        if client != (CLIENT_ID, self.client_secret):
            return 401, {"error": "invalid_client"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or (asked["redirect_uri"], asked["code_challenge"]) != (form["redirect_uri"], challenge):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "exp": now + 60, "iat": now, "nonce": asked["nonce"]}
        claims = {name: value for name, value in (claims | self.claims).items() if name not in self.dropped}
        headers = {"kid": self.kid} | self.headers
        key: Any = None if self.algorithm == "none" else self.key or self.own_key
        token = jwt.encode(claims, key, self.algorithm, headers=headers)
        self.told.append(token)
        return 200, {"token_type": "Bearer", "access_token": "unused", "id_token": token}


@contextmanager
def serving(provider: Provider) -> Iterator[Provider]:
    """Serves until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            documents = {"/.well-known/openid-configuration": provider.document, "/jwks": provider.jwks}
            self.reply(200, documents[self.path]())

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            values = {name: value[0] for name, value in form.items()}
            self.reply(*provider.trade(values, self.headers.get("authorization", "")))

        def reply(self, status: int, body: Any) -> None:
            provider.asked.append(self.path)
            status, data = provider.answers.get(self.path, (status, json.dumps(body).encode()))
            self.send_response(status)
            if status in (301, 302):
                self.send_header("location", data.decode())
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            try:
                self.wfile.write(data)
            except ConnectionError:
                return  # who reads no more has closed

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output is for what goes wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
