"""The JSON Schema (2020-12) of a rich text, made of the contract."""

from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from thmnayah.content.v1.rich_text_pb2 import Block, RichText
from thmnayah.content.v1.types_pb2 import Kind

Json = dict[str, Any]

_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_INT32: "integer",
}


def schema(rules: Kind.RichText) -> Json:
    """Describes the texts of a field, with the kinds of blocks that it takes."""
    definitions: dict[str, Json] = {}
    _define(RichText.DESCRIPTOR, definitions)
    kinds = [each.name for each in Block.DESCRIPTOR.oneofs_by_name["kind"].fields]
    block = definitions["Block"]
    for kind in kinds:
        if rules.blocks and kind not in rules.blocks:
            del block["properties"][kind]
    block["oneOf"] = [{"required": [kind]} for kind in kinds if kind in block["properties"]]
    # By its own id, since a block refers to the blocks in it.
    address = f"urn:thmnayah:rich-text:{','.join(sorted(rules.blocks)) or 'any'}"
    return {"$id": address, "$ref": "#/$defs/RichText", "$defs": definitions}


def _define(message: Descriptor, definitions: dict[str, Json]) -> None:
    """Add a message and those in it."""
    if message.name in definitions:
        return
    properties: Json = {}
    definitions[message.name] = {"type": "object", "properties": properties, "additionalProperties": False}
    for field in message.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        one = _scalar(field, rules)
        if field.message_type is not None:
            _define(field.message_type, definitions)
            one = {"$ref": f"#/$defs/{field.message_type.name}"}
        if field.is_repeated:
            bounds = {"minItems": rules.repeated.min_items, "maxItems": rules.repeated.max_items}
            one = {"type": "array", "items": one, **bounds}
        properties[field.json_name] = one


def _scalar(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Json:
    if field.enum_type is not None:
        return {"enum": [value.name for value in field.enum_type.values]}
    described: Json = {"type": _SCALARS.get(field.type)}
    if rules.string.max_len:
        described["maxLength"] = rules.string.max_len
    if rules.string.uuid:
        described["format"] = "uuid"
    if rules.HasField("int32"):
        described |= {"minimum": rules.int32.gte, "maximum": rules.int32.lte}
    return described
