"""What the contracts in protos/ say of each RPC: who may call it, and its place in the REST API."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from thmnayah.api.v1 import annotations_pb2 as thmnayah_annotations
from thmnayah.auth.v1 import (
    api_keys_pb2,
    audit_pb2,
    auth_pb2,
    groups_pb2,
    mfa_pb2,
    oidc_pb2,
    roles_pb2,
    scim_pb2,
    sessions_pb2,
    signing_keys_pb2,
    users_pb2,
)
from thmnayah.content.v1 import (
    blocks_pb2,
    comments_pb2,
    content_pb2,
    references_pb2,
    revisions_pb2,
    rich_text_pb2,
    slugs_pb2,
    taxonomy_pb2,
    types_pb2,
    workflow_pb2,
)
from thmnayah.gateway.v1 import gateway_pb2
from thmnayah.search.v1 import search_pb2

_FILES = (
    auth_pb2,
    sessions_pb2,
    signing_keys_pb2,
    roles_pb2,
    audit_pb2,
    api_keys_pb2,
    mfa_pb2,
    oidc_pb2,
    users_pb2,
    groups_pb2,
    scim_pb2,
    content_pb2,
    workflow_pb2,
    revisions_pb2,
    references_pb2,
    comments_pb2,
    rich_text_pb2,
    slugs_pb2,
    blocks_pb2,
    types_pb2,
    taxonomy_pb2,
    gateway_pb2,
    search_pb2,
)


@dataclass(frozen=True)
class HttpRule:
    """One way to call an RPC over REST."""

    verb: str
    """GET, POST, PATCH, PUT or DELETE."""
    path: str
    """As in the .proto, such as /v1/contents/{id}:publish."""
    body: str
    """The request's field that the body is; "*" for all, "" for no body."""


@dataclass(frozen=True)
class Rpc:
    """One RPC."""

    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        """As gRPC names it: /thmnayah.content.v1.ContentService/GetContent."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def service(self) -> str:
        """The short name of the service that serves it, such as "content"."""
        return str(self.descriptor.containing_service.full_name).split(".")[1]

    @property
    def access(self) -> thmnayah_annotations.Access:
        """Who may call it; without a rule, nobody."""
        return self.descriptor.GetOptions().Extensions[thmnayah_annotations.access]

    @property
    def is_counted(self) -> bool:
        """Whether the edge's rate limits count its calls."""
        return self._counting != thmnayah_annotations.NEVER

    @property
    def signs_in(self) -> bool:
        """Whether it takes credentials that somebody may guess, or sends mails: none is tried uncounted."""
        return self.access.by_credentials and self._counting == thmnayah_annotations.COUNTING_UNSPECIFIED

    @property
    def _counting(self) -> thmnayah_annotations.Counting.ValueType:
        return self.descriptor.GetOptions().Extensions[thmnayah_annotations.counting]

    @property
    def http(self) -> list[HttpRule]:
        """Its REST mappings, the main one first; none for an RPC that is not part of the REST API."""
        options = self.descriptor.GetOptions()
        if not options.HasExtension(annotations_pb2.http):
            return []
        rule = options.Extensions[annotations_pb2.http]
        return [_http_rule(each) for each in (rule, *rule.additional_bindings)]

    @property
    def has_side_effects(self) -> bool:
        """False for an RPC that may be repeated freely."""
        level = self.descriptor.GetOptions().idempotency_level
        return level != descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def _http_rule(rule: http_pb2.HttpRule) -> HttpRule:
    verb = str(rule.WhichOneof("pattern"))
    return HttpRule(verb.upper(), getattr(rule, verb), rule.body)


def services() -> list[ServiceDescriptor]:
    """Every service in protos/, by name."""
    return [service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()]


def rpcs() -> Iterator[Rpc]:
    """Every RPC in protos/."""
    for service in services():
        for method in service.methods:
            yield Rpc(method)


def event_subjects(service: str) -> list[str]:
    """The subjects of the events that a service announces."""
    subjects = (
        message.GetOptions().Extensions[thmnayah_annotations.event_subject]
        for file in _FILES
        if file.DESCRIPTOR.package.split(".")[1] == service
        for message in file.DESCRIPTOR.message_types_by_name.values()
    )
    return [subject for subject in subjects if subject]


def descriptor_file() -> Path:
    """The compiled descriptor set of all contracts, with comments; Envoy reads the same file."""
    return Path(str(files("thmnayah.api.v1") / "descriptors.binpb"))


@cache
def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """The content of `descriptor_file()`."""
    return descriptor_pb2.FileDescriptorSet.FromString(descriptor_file().read_bytes())
