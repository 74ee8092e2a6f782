"""The OpenAPI 3.1 document of the REST API, made from the contracts alone.

Paths come from google.api.http, schemas from messages and their buf.validate rules, security from
thmnayah.api.v1.access, and every description from a comment in protos/. Statuses come from what an
RPC's comment says after "Errors:", so what is true of one RPC is written beside that RPC.
"""

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2  # noqa: F401 - lets json_format print the details of the example

from libs import errors
from libs.contracts import HttpRule, Rpc
from libs.patterns import ecma_pattern

Json = dict[str, Any]

_DESCRIPTION = """\
Thmnayah is an open, Arabic-first content platform. This is its REST API; its gRPC API is made from
the same contracts and says the same.

Sign in with `POST /v1/auth:login` and send the `accessToken` as `Authorization: Bearer …`. Every
error has one shape, `Error`: branch on the `reason` in its details, and show people the message in
their language, which `Accept-Language` picks. Lists come in pages: send `nextPageToken` back as
`pageToken` until it is empty.

<div dir="rtl" lang="ar">

ثمناية منصة محتوى مفتوحة تبدأ بالعربية وتعامل العربية والإنجليزية على قدم المساواة. سجّل الدخول عبر
`POST /v1/auth:login` ثم أرسل `accessToken` في الترويسة `Authorization: Bearer …`. لكل الأخطاء شكل
واحد، وتختار الترويسة `Accept-Language` لغة الرسالة الموجهة إلى الناس.

</div>
"""

_STATUSES = {
    "INVALID_ARGUMENT": "400",
    "FAILED_PRECONDITION": "400",
    "UNAUTHENTICATED": "401",
    "PERMISSION_DENIED": "403",
    "NOT_FOUND": "404",
    "ALREADY_EXISTS": "409",
    "ABORTED": "409",
    "RESOURCE_EXHAUSTED": "429",
    "UNAVAILABLE": "503",
}


def document(descriptor_set: FileDescriptorSet, rpcs: Iterable[Rpc], *, version: str) -> Json:
    """Describe the RPCs that callers outside the mesh may use over REST.

    Args:
        descriptor_set: the contracts with their comments.
        rpcs: those to describe, in the order of the document; internal ones are left out.
        version: of the platform.

    Raises:
        ValueError: a contract says something that OpenAPI cannot.
    """
    comments = _comments(descriptor_set)
    schemas = _Schemas(comments)
    paths: dict[str, Json] = defaultdict(dict)
    tags: dict[str, Json] = {}
    for rpc in rpcs:
        if rpc.access.WhichOneof("rule") in (None, "internal"):
            continue
        for number, http in enumerate(rpc.http, start=1):
            operation = _operation(rpc, http, schemas, comments)
            operation["operationId"] += "" if number == 1 else str(number)
            paths[_template(http.path)][http.verb.lower()] = operation
            service = rpc.descriptor.containing_service
            tags[service.name] = {"name": service.name, "description": comments.get(service.full_name, "")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Thmnayah",
            "version": version,
            "summary": "The REST API of an open, Arabic-first content platform.",
            "description": _prose(_DESCRIPTION),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": list(tags.values()),
        "paths": dict(paths),
        "components": {
            "schemas": dict(sorted((schemas.built | _error_schemas()).items())),
            "parameters": {
                name: {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
                for name, said in _HEADERS.items()
            },
            "responses": {"Error": _error(_OTHER_ERRORS)},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


# Operations


def _operation(rpc: Rpc, http: HttpRule, schemas: "_Schemas", comments: Mapping[str, str]) -> Json:
    method = rpc.descriptor
    comment = comments.get(method.full_name, "")
    permission = rpc.access.permission
    said = [comment]
    if permission:
        said.append(f"Needs the permission `{permission}`.")
    if http.body != "*":  # otherwise the body's schema says it
        said += _message_rules(method.input_type, without=_bound_fields(http.path))
    operation: Json = {
        "operationId": method.name[0].lower() + method.name[1:],
        "tags": [method.containing_service.name],
        "summary": _summary(method.name, comment),
        "description": "\n\n".join(filter(None, said)),
        "parameters": _parameters(rpc, http, schemas),
    }
    if http.body:
        operation["requestBody"] = _body(method.input_type, http, schemas)
    operation["responses"] = _responses(rpc, http, comment, schemas)
    operation["security"] = _SECURITY[str(rpc.access.WhichOneof("rule"))]
    if permission:
        operation["x-permission"] = permission
    return operation


_SECURITY: dict[str, list[Json]] = {
    "anyone": [{}, {"bearer": []}],
    "by_credentials": [],
    "signed_in": [{"bearer": []}],
    "permission": [{"bearer": []}],
}

_HEADERS = {
    "Accept-Language": "Picks the language of an error's message for people: `ar` or `en`.",
    "If-Match": "The `ETag` that was read: the change happens only if it still holds.",
    "If-None-Match": "The `ETag` that is held already: while it holds, the answer is an empty 304.",
    "X-Request-Id": "Names the call in logs and errors; made up when it is not sent.",
}


def _parameters(rpc: Rpc, http: HttpRule, schemas: "_Schemas") -> list[Json]:
    request = rpc.descriptor.input_type
    bound = _bound_fields(http.path)
    parameters = [schemas.parameter(_field(request, path), "path") for path in bound]
    if http.body != "*":
        unbound = [field for field in request.fields if field.name not in (*bound, http.body)]
        parameters += [schemas.parameter(field, "query") for field in unbound]
    headers = ["Accept-Language", "X-Request-Id"]
    if _is_guarded(rpc, http):
        headers.append("If-Match")
    if _is_tagged(rpc, http) and http.verb == "GET":
        headers.append("If-None-Match")
    return parameters + [{"$ref": f"#/components/parameters/{header}"} for header in headers]


def _body(request: Descriptor, http: HttpRule, schemas: "_Schemas") -> Json:
    if http.body == "*":
        schema = schemas.message(request, without=_bound_fields(http.path))
        required = bool(schemas.built[request.name].get("required"))
    else:
        field = request.fields_by_name[http.body]
        if _message(field).full_name == "google.api.HttpBody":
            return {"required": True, "content": {"application/scim+json": {"schema": {"type": "object"}}}}
        schema = schemas.message(_message(field), partial=http.verb == "PATCH")
        required = _is_required(field)
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _responses(rpc: Rpc, http: HttpRule, comment: str, schemas: "_Schemas") -> Json:
    reply = rpc.descriptor.output_type
    success: Json = {"description": "OK"}
    if reply.full_name == "google.api.HttpBody":
        success["content"] = {"*/*": {}}
    else:
        success["content"] = {"application/json": {"schema": schemas.message(reply)}}
    responses: Json = {"200": success}
    if _is_tagged(rpc, http):
        success["headers"] = {
            "ETag": {"description": "Stands for this version of the item.", "schema": {"type": "string"}}
        }
        if http.verb == "GET":
            responses["304"] = {"description": "`If-None-Match` names the version there is."}
    reasons = _errors(rpc, http, comment)
    responses |= {status: _error("; ".join(reasons[status]) + ".") for status in sorted(reasons)}
    return responses | {"default": {"$ref": "#/components/responses/Error"}}


def _errors(rpc: Rpc, http: HttpRule, comment: str) -> dict[str, list[str]]:
    """For each HTTP status, when the call ends with it: by its access, its shape and its comment."""
    reasons: dict[str, list[str]] = defaultdict(list)
    reasons["400"].append(
        "INVALID_ARGUMENT `INVALID_REQUEST` when the request breaks a rule, naming each field that does"
    )
    rule = rpc.access.WhichOneof("rule")
    if rule == "anyone":
        reasons["401"].append("UNAUTHENTICATED `TOKEN_INVALID` when a token is sent that is not valid")
    elif rule != "by_credentials":
        reasons["401"].append("UNAUTHENTICATED `TOKEN_MISSING` or `TOKEN_INVALID`")
    if rule == "permission":
        reasons["403"].append(f"PERMISSION_DENIED when no role of the caller grants `{rpc.access.permission}`")
    if _is_guarded(rpc, http):
        reasons["412"].append("ABORTED `ETAG_MISMATCH` when it changed since the version that `If-Match` names")
    if http.body:
        reasons["413"].append("The body is larger than this call takes")
    _, _, said = comment.partition("Errors: ")
    for clause in said.partition("\n\n")[0].rstrip(".").split("; "):
        status = _STATUSES.get(clause.partition(" ")[0])
        if status:
            reasons[status].append(clause)
    return reasons


def _is_tagged(rpc: Rpc, http: HttpRule) -> bool:
    """Whether the answer has an ETag; what was deleted has none."""
    return "etag" in rpc.descriptor.output_type.fields_by_name and http.verb != "DELETE"


def _is_guarded(rpc: Rpc, http: HttpRule) -> bool:
    """Whether the call changes what its path names, and only if an etag still holds."""
    request = rpc.descriptor.input_type
    changed = request if http.body in ("", "*") else _message(request.fields_by_name[http.body])
    return rpc.has_side_effects and bool(_bound_fields(http.path)) and "etag" in changed.fields_by_name


def _summary(name: str, comment: str) -> str:
    """The first sentence: "GetContent returns one item, …" → "Returns one item, …"."""
    sentence = re.split(r"(?<=\.)\s", comment, maxsplit=1)[0].replace("`", "").rstrip(".")
    sentence = sentence.removeprefix(f"{name} ")
    return sentence[:1].upper() + sentence[1:]


def _template(path: str) -> str:
    """/v1/contents/{content.id} → /v1/contents/{id}"""
    return re.sub(r"\{(?:\w+\.)*(\w+)\}", lambda match: "{" + _json_name(match.group(1)) + "}", path)


def _bound_fields(path: str) -> list[str]:
    return re.findall(r"\{([\w.]+)\}", path)


def _field(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, name = path.split(".")
    for parent in parents:
        message = _message(message.fields_by_name[parent])
    return message.fields_by_name[name]


def _message(field: FieldDescriptor) -> Descriptor:
    if field.message_type is None:
        raise ValueError(f"{field.full_name} is not a message")
    return field.message_type


def _json_name(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


# Schemas

# How the types of google.protobuf are written in JSON.
_WELL_KNOWN: dict[str, Json] = {
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Empty": {"type": "object", "maxProperties": 0},
    "google.protobuf.FieldMask": {"type": "string", "format": "field-mask"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}

_SCALARS: dict[int, Json] = {
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
}
_BYTES: Json = {"type": "string", "contentEncoding": "base64"}

# Not in the contracts what they are in JSON: no keyword says what a rule does about them.
_ENCODED = (
    _SCALARS[FieldDescriptor.CPPTYPE_INT64],
    _SCALARS[FieldDescriptor.CPPTYPE_UINT64],
    _BYTES,
    *_WELL_KNOWN.values(),
)

_NUMBER = {"gt": "exclusiveMinimum", "gte": "minimum", "lt": "exclusiveMaximum", "lte": "maximum"}

# Rules with a keyword of the same meaning, by the JSON type they are about.
_KEYWORDS: dict[str, dict[str, str]] = {
    "string": {"min_len": "minLength", "max_len": "maxLength", "in": "enum", "example": "examples"},
    "integer": {**_NUMBER, "in": "enum", "example": "examples"},
    "number": {**_NUMBER, "example": "examples"},
    "array": {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"},
    "object": {"min_pairs": "minProperties", "max_pairs": "maxProperties"},
}

# What `required` means for a value that is never absent in protobuf.
_NOT_EMPTY = {"string": "minLength", "array": "minItems", "object": "minProperties"}

_FORMATS = {
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "uuid": "uuid",
}

_PARTIAL = "No field is required in a PATCH."

# Rules about the parts of a list or a map; the names of an object are strings.
_PARTS = {"items": "items", "keys": "propertyNames", "values": "additionalProperties"}

_WORDS = {"max_bytes": "At most {} bytes in UTF-8."}


class _Schemas:
    """The schemas of the messages and enums that were asked for, and of all that these hold."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self.built: dict[str, Json] = {}
        self._comments = comments
        self._owners: dict[str, str] = {}

    def message(self, message: Descriptor, *, without: Iterable[str] = (), partial: bool = False) -> Json:
        """A reference to the message's schema.

        Args:
            without: fields that are not in the body, since the path has them.
            partial: what a PATCH sends, of which no field is required.
        """
        if message.full_name.startswith("google.protobuf."):
            return dict(_WELL_KNOWN[message.full_name])
        if partial:
            return self._refer(message, "Patch", lambda: self._partial(message))
        return self._refer(message, "", lambda: self._object(message, without))

    def parameter(self, field: FieldDescriptor, place: str) -> Json:
        """A field as a part of the URL."""
        schema = self._property(field)
        if "$ref" in schema and field.message_type is not None:
            raise ValueError(f"{field.full_name}: a message cannot be a query parameter")
        schema.pop("readOnly", None)  # a path names what the service has made
        described = {"description": schema.pop("description")} if "description" in schema else {}
        required = place == "path" or _is_required(field)
        return {"name": field.json_name, "in": place, "required": required, **described, "schema": schema}

    def _refer(self, described: Descriptor | EnumDescriptor, suffix: str, build: Callable[[], Json]) -> Json:
        package = f"{described.file.package}."
        name = described.full_name.removeprefix(package) + suffix
        owner = self._owners.setdefault(name, described.full_name)
        if owner != described.full_name:
            raise ValueError(f"{owner} and {described.full_name} would both be the schema {name}")
        if name not in self.built:
            self.built[name] = {}  # a message may hold itself
            self.built[name] = build()
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, message: Descriptor, without: Iterable[str] = ()) -> Json:
        fields = [field for field in message.fields if field.name not in without]
        said = [self._comments.get(message.full_name, ""), *_message_rules(message, without=without), *_oneofs(message)]
        schema: Json = {"type": "object"}
        if any(said):
            schema["description"] = "\n\n".join(filter(None, said))
        required = [field.json_name for field in fields if _is_required(field)]
        if required:
            schema["required"] = required
        return schema | {"properties": {field.json_name: self._property(field) for field in fields}}

    def _partial(self, message: Descriptor) -> Json:
        schema = self._object(message)
        schema.pop("required", None)
        return schema | {"description": "\n\n".join(filter(None, [schema.get("description"), _PARTIAL]))}

    def _enum(self, enum: EnumDescriptor) -> Json:
        values = [
            f"- `{value.name}`: {self._comments.get(f'{enum.full_name}.{value.name}', '')}" for value in enum.values
        ]
        return {
            "type": "string",
            "description": "\n\n".join(filter(None, [self._comments.get(enum.full_name), "\n".join(values)])),
            "enum": [value.name for value in enum.values],
        }

    def _property(self, field: FieldDescriptor) -> Json:
        schema = self._type(field)
        said = [self._comments.get(field.full_name, "")]
        rules = field.GetOptions().Extensions[validate_pb2.field]
        said += _apply_rules(schema, rules)
        if rules.required and not field.has_presence and schema.get("type") in _NOT_EMPTY:
            schema.setdefault(_NOT_EMPTY[schema["type"]], 1)
        behaviors = _behaviors(field)
        if field_behavior_pb2.IMMUTABLE in behaviors:
            said.append("Cannot be changed once it is set.")
        if any(said):
            schema["description"] = " ".join(filter(None, said))
        if field_behavior_pb2.OUTPUT_ONLY in behaviors:
            schema["readOnly"] = True
        if field_behavior_pb2.INPUT_ONLY in behaviors:
            schema["writeOnly"] = True
        return schema

    def _type(self, field: FieldDescriptor) -> Json:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(field.message_type.fields_by_name["value"])}
        if field.is_repeated:
            return {"type": "array", "items": self._single(field)}
        return self._single(field)

    def _single(self, field: FieldDescriptor) -> Json:
        if field.message_type is not None:
            return self.message(field.message_type)
        enum = field.enum_type
        if enum is not None:
            return self._refer(enum, "", lambda: self._enum(enum))
        return dict(_BYTES if field.type == FieldDescriptor.TYPE_BYTES else _SCALARS[field.cpp_type])


def _apply_rules(schema: Json, rules: validate_pb2.FieldRules) -> list[str]:
    """Add to a schema what JSON Schema can say of the rules; returns the rest in words."""
    keywords = {} if schema in _ENCODED else _KEYWORDS.get(schema.get("type", ""), {})
    said = [_sentence(rule.message or rule.expression) for rule in rules.cel]
    typed = rules.WhichOneof("type")
    for rule, value in getattr(rules, typed).ListFields() if typed else ():
        if rule.name in keywords:
            schema[keywords[rule.name]] = list(value) if rule.is_repeated else value
        elif rule.name == "pattern":
            schema["pattern"] = ecma_pattern(value)
        elif rule.name in _FORMATS:
            schema["format"] = _FORMATS[rule.name]
        elif rule.name in _PARTS:
            said += _apply_rules(schema.setdefault(_PARTS[rule.name], {"type": "string"}), value)
        elif rule.name in _WORDS:
            said.append(_WORDS[rule.name].format(value))
        elif rule.name != "defined_only":  # an enum's schema is its values
            said.append(f"Rule: {rule.name} = {value}.")
    names, values = (schema.get(part, {}).get("examples", ()) for part in ("propertyNames", "additionalProperties"))
    if names and values:
        schema["examples"] = [dict(zip(names, values, strict=True))]
    return said


def _message_rules(message: Descriptor, *, without: Iterable[str] = ()) -> list[str]:
    """The rules about a whole message, in words; the id of each names the field to mend."""
    rules = message.GetOptions().Extensions[validate_pb2.message].cel
    return [f"`{_json_name(rule.id)}` {rule.message or rule.expression}." for rule in rules if rule.id not in without]


def _oneofs(message: Descriptor) -> list[str]:
    said = []
    for oneof in message.oneofs:
        names = ", ".join(f"`{field.json_name}`" for field in oneof.fields)
        if len(oneof.fields) > 1:
            required = oneof.GetOptions().Extensions[validate_pb2.oneof].required
            said.append(f"{'Exactly' if required else 'At most'} one of {names}.")
    return said


def _behaviors(field: FieldDescriptor) -> list[int]:
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _is_required(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return rules.required or field_behavior_pb2.REQUIRED in _behaviors(field)


# Errors

_OTHER_ERRORS = (
    "Any other error: RESOURCE_EXHAUSTED (429) when too much is asked at once and UNAVAILABLE (503) when a part of "
    "the platform is away, both of which `RetryInfo` says how soon to repeat; DEADLINE_EXCEEDED (504) when there was "
    "not enough time; INTERNAL (500) for all else."
)

_DETAILS: dict[str, tuple[str, Json]] = {
    "ErrorInfo": (
        "What went wrong, for programs.",
        {
            "reason": {"type": "string", "description": "Stable; UPPER_SNAKE_CASE."},
            "domain": {"type": "string"},
            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    ),
    "LocalizedMessage": (
        "What went wrong, for people.",
        {"locale": {"type": "string", "description": "`ar` or `en`."}, "message": {"type": "string"}},
    ),
    "RequestInfo": ("The call as the logs name it.", {"requestId": {"type": "string"}}),
    "BadRequest": (
        "Each field that is wrong.",
        {
            "fieldViolations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": {"type": "string", "description": "Its path, such as `content.title.ar`."},
                        "description": {"type": "string"},
                    },
                },
            }
        },
    ),
    "RetryInfo": (
        "Repeating the call may help.",
        {"retryDelay": _WELL_KNOWN["google.protobuf.Duration"] | {"description": "How long to wait first."}},
    ),
}


def _error(description: str) -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": description, "content": content}


def _error_schemas() -> dict[str, Json]:
    example = errors.NotFound("CONTENT_NOT_FOUND", "no content 018f…", "لا يوجد محتوى 018f…")
    schemas: dict[str, Json] = {
        "Error": {
            "type": "object",
            "description": "The one shape of every error.",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "integer", "description": "The gRPC status code, such as 5 for NOT_FOUND."},
                "message": {"type": "string", "description": "For developers, in English."},
                "details": {
                    "type": "array",
                    "items": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in _DETAILS]},
                },
            },
            "examples": [json_format.MessageToDict(example.status(language="ar", request_id="b1946ac9"))],
        }
    }
    for name, (description, properties) in _DETAILS.items():
        type_url = {"type": "string", "const": f"type.googleapis.com/google.rpc.{name}"}
        schemas[name] = {
            "type": "object",
            "description": description,
            "required": ["@type"],
            "properties": {"@type": type_url, **properties},
        }
    return schemas


# Comments


def _comments(descriptor_set: FileDescriptorSet) -> dict[str, str]:
    """The comment above each thing that has one, by full name; an enum's value by that of the enum."""
    comments: dict[str, str] = {}
    for file in descriptor_set.file:
        for location in file.source_code_info.location:
            # A path is pairs of a list's field number and an index into it; others are about a part of a thing.
            if not location.leading_comments or len(location.path) % 2:
                continue
            node: Any = file
            names = [file.package]
            for number, index in zip(location.path[::2], location.path[1::2], strict=True):
                part = node.DESCRIPTOR.fields_by_number[number]
                if part.name == "options":
                    break
                node = getattr(node, part.name)[index]
                names.append(node.name)
            else:
                comments[".".join(names)] = _prose(location.leading_comments)
    return comments


def _prose(comment: str) -> str:
    """A comment without its line breaks; paragraphs stay."""
    paragraphs = textwrap.dedent(comment).strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.splitlines()) for paragraph in paragraphs)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
