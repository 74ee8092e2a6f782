"""A passkey's authenticator in software: real keys, real signatures, and every lie that a test wants told."""

import base64
import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

ORIGIN = "http://localhost:8080"
RP_ID = "localhost"
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One credential; what it says of itself can be changed before it signs."""

    origin: str = ORIGIN
    rp_id: str = RP_ID
    flags: int = PRESENT | VERIFIED
    counter: int = 1
    """As it stands in the next signature, which adds one; 0 stays 0, as with passkeys that are synchronised."""
    cross_origin: bool = False
    user_handle: bytes = b""
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)

    def create(self, options: Struct, **client_data: Any) -> Struct:
        """As `navigator.credentials.create` answers, by its `toJSON()`."""
        asked: dict[str, Any] = MessageToDict(options)
        self.user_handle = from_base64url(asked["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        public_key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + struct.pack(">H", len(self.credential_id)) + self.credential_id + cbor2.dumps(public_key)
        attestation = {"fmt": "none", "attStmt": {}, "authData": self._data(self.flags | ATTESTED) + attested}
        return self._answer(
            clientDataJSON=self._client_data("webauthn.create", asked, client_data),
            attestationObject=cbor2.dumps(attestation),
        )

    def get(self, options: Struct, **client_data: Any) -> Struct:
        """As `navigator.credentials.get` answers, by its `toJSON()`."""
        client = self._client_data("webauthn.get", MessageToDict(options), client_data)
        data = self._data(self.flags)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        handle = {"userHandle": self.user_handle} if self.user_handle else {}
        return self._answer(clientDataJSON=client, authenticatorData=data, signature=signature, **handle)

    def _client_data(self, kind: str, asked: dict[str, Any], changed: dict[str, Any]) -> bytes:
        said = {"type": kind, "challenge": asked["challenge"], "origin": self.origin, "crossOrigin": self.cross_origin}
        return json.dumps(said | changed).encode()

    def _data(self, flags: int) -> bytes:
        data = hashlib.sha256(self.rp_id.encode()).digest() + struct.pack(">BI", flags, self.counter)
        self.counter += bool(self.counter)
        return data

    def _answer(self, **response: bytes) -> Struct:
        answer = Struct()
        identifier = base64url(self.credential_id)
        answer.update(
            {
                "id": identifier,
                "rawId": identifier,
                "type": "public-key",
                "clientExtensionResults": {},
                "response": {name: base64url(value) for name, value in response.items()},
            }
        )
        return answer
