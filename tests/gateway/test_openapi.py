"""The OpenAPI document says what the contracts say, and nothing that they do not."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regress
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from libs import contracts, errors
from services.gateway import openapi

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    return openapi.document(contracts.descriptor_set(), contracts.rpcs(), version="1.2.3")


@pytest.fixture(scope="module")
def operations(document: Json) -> dict[str, Json]:
    """By operationId, each with its path and verb."""
    return {
        operation["operationId"]: operation | {"path": path, "verb": verb}
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    }


@pytest.fixture(scope="module")
def schemas(document: Json) -> dict[str, Json]:
    return dict(document["components"]["schemas"])


@pytest.fixture
def described(tmp_path: Path) -> Any:
    """Describes a .proto of one service, given as what stands below its imports."""

    def describe(source: str) -> Json:
        imports = ["buf/validate/validate", "google/api/annotations", "thmnayah/api/v1/annotations"]
        lines = ['syntax = "proto3";', "package example.v1;", *(f'import "{path}.proto";' for path in imports), source]
        (tmp_path / "example.proto").write_text("\n".join(lines))
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}", "--include_source_info"]
        sets = [f"--descriptor_set_in={contracts.descriptor_file()}", f"--descriptor_set_out={tmp_path / 'set'}"]
        subprocess.run([*protoc, *sets, "example.proto"], check=True)
        compiled = FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
        pool = DescriptorPool()
        for file in (*contracts.descriptor_set().file, *compiled.file):
            pool.Add(file)
        service = pool.FindServiceByName("example.v1.ExampleService")
        return openapi.document(compiled, map(contracts.Rpc, service.methods), version="0")

    return describe


def test_the_document_is_valid_openapi(document: Json) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_document_is_the_same_each_time(document: Json) -> None:
    again = openapi.document(contracts.descriptor_set(), contracts.rpcs(), version="1.2.3")

    assert json.dumps(again) == json.dumps(document)


def test_every_public_rpc_is_an_operation(operations: dict[str, Json]) -> None:
    described = {(operation["verb"].upper(), operation["path"]) for operation in operations.values()}
    public = {
        (rule.verb, re.sub("_(.)", lambda match: match[1].upper(), re.sub(r"\{\w+\.", "{", rule.path)))
        for rpc in contracts.rpcs()
        if rpc.access.WhichOneof("rule") != "internal"
        for rule in rpc.http
    }

    assert described == public
    assert all(operation["summary"] and operation["description"] for operation in operations.values())


def test_what_is_not_public_is_absent(described: Any) -> None:
    document = described("""
        service ExampleService {
          rpc Seen(SeenRequest) returns (Reply) {
            option (google.api.http) = {get: "/seen"};
            option (thmnayah.api.v1.access) = {anyone: true};
          }
          rpc Inner(InnerRequest) returns (Reply) {
            option (google.api.http) = {get: "/inner"};
            option (thmnayah.api.v1.access) = {internal: true};
          }
          rpc Closed(ClosedRequest) returns (Reply) { option (google.api.http) = {get: "/closed"}; }
          rpc GrpcOnly(GrpcOnlyRequest) returns (Reply) { option (thmnayah.api.v1.access) = {anyone: true}; }
        }
        message SeenRequest {}
        message InnerRequest { Hidden hidden = 1; }
        message ClosedRequest {}
        message GrpcOnlyRequest { Hidden hidden = 1; }
        message Hidden {}
        message Reply {}
    """)

    assert list(document["paths"]) == ["/seen"]
    assert "Reply" in document["components"]["schemas"]
    assert "Hidden" not in document["components"]["schemas"]


def test_every_schema_is_referred_to(document: Json) -> None:
    referred = {node["$ref"].rpartition("/")[2] for node in _nodes(document) if "$ref" in node}

    assert set(document["components"]["schemas"]) <= referred


def test_access_becomes_security(operations: dict[str, Json]) -> None:
    assert operations["login"]["security"] == []
    assert operations["search"]["security"] == [{}, {"bearer": []}]
    assert operations["getMe"]["security"] == [{"bearer": []}]
    assert operations["publishContent"]["security"] == [{"bearer": []}]
    assert operations["publishContent"]["x-permission"] == "content.publish"
    assert "`content.publish`" in operations["publishContent"]["description"]


def test_a_request_is_split_between_path_query_and_body(
    document: Json, operations: dict[str, Json], schemas: dict[str, Json]
) -> None:
    update = operations["updateContent"]
    publish = operations["publishContent"]

    assert update["path"] == "/v1/contents/{id}"
    assert _parameters(document, update, "path") == {"id": {"type": "string", "format": "uuid"}}
    assert _parameters(document, update, "query") == {
        "updateMask": {"type": "string", "format": "field-mask"},
        "note": {"type": "string", "maxLength": 1000, "pattern": r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F]*$"},
        "autosave": {"type": "boolean"},
    }
    assert _body(update) == {"$ref": "#/components/schemas/ContentPatch"}
    assert publish["path"] == "/v1/contents/{id}:publish"
    assert _parameters(document, publish, "query") == {}
    assert list(schemas["PublishContentRequest"]["properties"]) == ["locales", "etag", "references"]


def test_a_patch_requires_no_field_and_is_else_the_same(schemas: dict[str, Json]) -> None:
    assert schemas["Content"]["required"] == ["type", "title"]
    assert "required" not in schemas["ContentPatch"]
    assert schemas["ContentPatch"]["properties"] == schemas["Content"]["properties"]


def test_conditional_requests_are_described_where_they_work(document: Json, operations: dict[str, Json]) -> None:
    def headers(name: str) -> set[str]:
        return _parameters(document, operations[name], "header").keys() & {"If-Match", "If-None-Match"}

    assert headers("getContent") == {"If-None-Match"}
    assert headers("createContent") == set()
    assert all(headers(name) == {"If-Match"} for name in ("updateContent", "publishContent", "deleteContent"))
    assert {"200", "304"} <= operations["getContent"]["responses"].keys()
    assert "412" in operations["updateContent"]["responses"]
    assert "ETag" in operations["updateContent"]["responses"]["200"]["headers"]
    assert "headers" not in operations["deleteContent"]["responses"]["200"]


def test_field_rules_become_keywords(schemas: dict[str, Json], document: Json, operations: dict[str, Json]) -> None:
    content = schemas["Content"]["properties"]
    user = schemas["CreateUserRequest"]

    assert content["title"]["maxProperties"] == 50
    assert content["title"]["propertyNames"]["maxLength"] == 35
    assert content["title"]["additionalProperties"].items() >= {"minLength": 1, "maxLength": 300}.items()
    assert content["tags"].items() >= {"maxItems": 50, "uniqueItems": True}.items()
    assert content["tags"]["items"]["maxLength"] == 64
    assert content["id"].items() >= {"format": "uuid", "readOnly": True}.items()
    assert content["version"] == {
        "type": "integer",
        "format": "int32",
        "description": "Counts the changes of the item, from 1.",
        "readOnly": True,
    }
    assert content["createTime"].items() >= {"type": "string", "format": "date-time"}.items()
    assert user["required"] == ["email", "password", "roles"]
    assert user["properties"]["email"].items() >= {"format": "email", "maxLength": 254, "minLength": 1}.items()
    assert user["properties"]["password"].items() >= {"minLength": 8, "writeOnly": True}.items()
    assert "Must hold an upper-case letter and a digit." in user["properties"]["password"]["description"]
    page_size = _parameters(document, operations["listContents"], "query")["pageSize"]
    assert page_size.items() >= {"minimum": 0, "maximum": 200}.items()
    assert "`content.title` is required in at least one locale." in operations["createContent"]["description"]


def test_comments_become_descriptions(document: Json, operations: dict[str, Json], schemas: dict[str, Json]) -> None:
    assert operations["getContent"]["summary"] == "Returns one item, with its ETag as a header too"
    assert operations["getContent"]["description"].startswith("GetContent returns one item, with its `ETag`")
    assert schemas["Content"]["properties"]["body"]["description"] == "The text itself."
    assert "- `PUBLISHED`: What readers see." in schemas["View"]["description"]
    assert {tag["name"] for tag in document["tags"] if tag["description"]} == {
        service.name for service in contracts.services()
    }


def test_an_rpc_s_own_errors_are_its_responses(operations: dict[str, Json]) -> None:
    responses = operations["createContent"]["responses"]

    assert list(responses) == ["200", "400", "401", "403", "409", "413", "default"]
    assert responses["409"]["description"] == "ALREADY_EXISTS `EXTERNAL_ID_TAKEN`, `SLUG_TAKEN` or `FIELD_VALUE_TAKEN`."
    assert "429" in operations["login"]["responses"]
    assert "`MESH_NOT_READY`" in operations["getReadiness"]["responses"]["503"]["description"]
    for operation in operations.values():
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}


@pytest.mark.parametrize(
    "failure",
    [
        errors.InvalidArgument({"content.title.ar": "is too long"}),
        errors.Forbidden("PERMISSION_DENIED", "not allowed", "غير مسموح", metadata={"permission": "users.create"}),
        errors.Unavailable(),
    ],
)
def test_errors_have_the_shape_described(document: Json, failure: errors.Failure) -> None:
    sent = json_format.MessageToDict(failure.status(language="ar", request_id="1"))
    schema = {"$ref": "#/components/schemas/Error", "components": document["components"]}

    assert list(OAS31Validator(schema).iter_errors(sent)) == []


def test_every_pattern_is_one_of_ecma_262(document: Json) -> None:
    patterns = {node["pattern"] for node in _nodes(document) if isinstance(node.get("pattern"), str)}

    assert len(patterns) > 5
    for pattern in patterns:
        regress.Regex(pattern, "u")


def test_a_translated_pattern_matches_what_the_contract_s_does(schemas: dict[str, Json]) -> None:
    content = schemas["Content"]["properties"]
    title = regress.Regex(content["title"]["additionalProperties"]["pattern"], "u")
    slug = regress.Regex(content["slug"]["additionalProperties"]["pattern"], "u")

    assert title.find("بيت الحكمة")
    assert not title.find("a\u202eb")
    assert slug.find("بيت-الحكمة-١")
    assert not slug.find("بيت الحكمة")


def test_protobuf_s_json_is_described_as_it_is_written(described: Any) -> None:
    schema = described("""
        import "google/protobuf/duration.proto";
        service ExampleService {
          rpc Make(Thing) returns (Thing) {
            option (google.api.http) = {post: "/things" body: "*"};
            option (thmnayah.api.v1.access) = {anyone: true};
          }
        }
        // Thing is one.
        message Thing {
          int64 size_bytes = 1 [(buf.validate.field).int64.gte = 1];
          bytes digest = 2 [(buf.validate.field).bytes.max_len = 32];
          google.protobuf.Duration length = 3;
          repeated Thing parts = 4;
          map<string, string> name = 5 [(buf.validate.field).map = {
            keys: {string: {example: "ar" example: "en"}}
            values: {string: {example: "ثمن" example: "eighth"}}
          }];
          oneof place {
            string shelf = 6;
            string box = 7;
          }
        }
    """)["components"]["schemas"]["Thing"]

    assert schema["description"] == "Thing is one.\n\nAt most one of `shelf`, `box`."
    properties = schema["properties"]
    assert properties["sizeBytes"] == {"type": "string", "format": "int64", "description": "Rule: gte = 1."}
    assert properties["digest"] == {
        "type": "string",
        "contentEncoding": "base64",
        "description": "Rule: max_len = 32.",
    }
    assert regress.Regex(properties["length"]["pattern"], "u").find("1.5s")
    assert properties["parts"] == {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
    assert properties["name"]["examples"] == [{"ar": "ثمن", "en": "eighth"}]


def _nodes(node: Any) -> Iterator[Json]:
    """Every object of the document."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(part)


def _parameters(document: Json, operation: Json, place: str) -> dict[str, Json]:
    """The schemas of an operation's parameters in one place, by name."""
    shared = document["components"]["parameters"]
    each = [
        shared.get(parameter.get("$ref", "").rpartition("/")[2], parameter) for parameter in operation["parameters"]
    ]
    return {parameter["name"]: parameter["schema"] for parameter in each if parameter["in"] == place}


def _body(operation: Json) -> Any:
    return operation["requestBody"]["content"]["application/json"]["schema"]
