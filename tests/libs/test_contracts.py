"""The contracts themselves: everything that can be sent has a bound, and the bound is where it says."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import protovalidate
import pytest
from buf.validate import validate_pb2
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value

from libs import contracts, rpc
from libs.errors import InvalidArgument

STRING, BYTES, MESSAGE = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE
INTEGERS = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64)
# No rule bounds a request to more than these, so that R-IN-2 holds: 4 MiB of text, 1,000 items, pages of 200.
LONGEST_TEXT, MOST_ITEMS, LONGEST_FILTER_BYTES, LARGEST_PAGE = 200_000, 1000, 2048, 200

REQUESTS = {each.descriptor.input_type.full_name: each.descriptor.input_type for each in contracts.rpcs()}


@dataclass(frozen=True)
class Place:
    """A field of a request, and the way to it."""

    request: Descriptor
    path: tuple[FieldDescriptor, ...]

    @property
    def field(self) -> FieldDescriptor:
        return self.path[-1]

    @property
    def holder(self) -> Descriptor:
        """The message that has the field."""
        message = self.field.containing_type
        assert message is not None
        return message

    @property
    def rules(self) -> Any:
        return self.field.GetOptions().Extensions[validate_pb2.field]

    def __str__(self) -> str:
        return ".".join((self.request.name, *(field.name for field in self.path)))

    def violations(self, value: Any) -> set[str]:
        """The rules that a request breaks by this value here."""
        request = message = GetMessageClass(self.request)()
        for field in self.path[:-1]:
            message = getattr(message, field.name)
        if self.field.message_type is not None and self.field.message_type.GetOptions().map_entry:
            getattr(message, self.field.name).update(value)
        elif self.field.is_repeated:
            getattr(message, self.field.name).extend(value)
        else:
            setattr(message, self.field.name, value)
        name = self.field.name
        return {
            violation.proto.rule_id
            for violation in protovalidate.collect_violations(request)
            if _names(violation)[-1:] == [name]
        }


def _names(violation: protovalidate.Violation) -> list[str]:
    """The fields on the way to the one that is wrong; none where a rule is about the whole message."""
    return [] if violation.proto.field is None else [each.field_name for each in violation.proto.field.elements]


def places(request: Descriptor, message: Descriptor, before: tuple[FieldDescriptor, ...] = ()) -> Iterator[Place]:
    """Every field of a request, however deep; a message inside itself is entered once."""
    for field in message.fields:
        yield Place(request, (*before, field))
        inner = field.message_type
        if inner is not None and not field.is_repeated and inner not in [each.containing_type for each in before]:
            yield from places(request, inner, (*before, field))


PLACES = [place for request in REQUESTS.values() for place in places(request, request)]
OURS = [place for place in PLACES if place.holder.file.package.startswith("thmnayah.")]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


# R-IN-1: a bound on everything.


def _text_bound(rules: Any) -> int:
    """How many characters or bytes a text may have; 0 when nothing says so."""
    if rules.uuid or rules.const or getattr(rules, "in"):
        return 36
    return int(rules.max_len or rules.max_bytes or rules.len or rules.len_bytes)


def unbounded(field: FieldDescriptor) -> list[str]:
    """What a field lacks a bound for."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    text = field.type in (STRING, BYTES)
    if _is_map(field):
        lacks = {
            "its number of pairs": not rules.map.max_pairs,
            "each key": not _text_bound(rules.map.keys.string),
            "each value": _value(field).type in (STRING, BYTES) and not _text_bound(rules.map.values.string),
        }
    elif field.is_repeated:
        lacks = {
            "its number of items": not rules.repeated.max_items,
            "each item": text and not _text_bound(rules.repeated.items.string),
        }
    else:
        lacks = {
            "its length": text and not _text_bound(rules.string) and not rules.bytes.max_len,
            "what it holds": _is_foreign_and_open(field.message_type) and not rules.cel,
        }
    return [what for what, lacking in lacks.items() if lacking]


def _value(field: FieldDescriptor) -> FieldDescriptor:
    assert field.message_type is not None
    return field.message_type.fields_by_name["value"]


def _is_foreign_and_open(message: Descriptor | None) -> bool:
    """Whether a message is another's definition, which bounds nothing, and holds what could be endless."""
    if message is None or message.file.package.startswith("thmnayah."):
        return False
    return any(field.is_repeated or field.type in (STRING, BYTES) for field in message.fields)


@pytest.mark.parametrize("place", OURS, ids=str)
def test_every_field_of_a_request_has_a_bound(place: Place) -> None:
    assert unbounded(place.field) == [], f"{place} needs a bound for these"


def test_every_field_of_every_message_of_ours_has_a_bound() -> None:
    """What is only answered or announced is bounded too: clients and consumers count on it."""
    lacking = {
        f"{message.full_name}.{field.name}": unbounded(field)
        for service in contracts.services()
        for message in service.file.message_types_by_name.values()
        for field in message.fields
    }

    assert {name: what for name, what in lacking.items() if what} == {}


def test_a_field_without_a_bound_is_noticed() -> None:
    """Of messages that others defined, and where no rule is."""
    assert unbounded(HttpBody.DESCRIPTOR.fields_by_name["content_type"]) == ["its length"]
    assert unbounded(HttpBody.DESCRIPTOR.fields_by_name["data"]) == ["its length"]
    assert unbounded(FieldMask.DESCRIPTOR.fields_by_name["paths"]) == ["its number of items", "each item"]
    assert unbounded(Struct.DESCRIPTOR.fields_by_name["fields"]) == ["its number of pairs", "each key"]
    assert unbounded(Value.DESCRIPTOR.fields_by_name["list_value"]) == ["what it holds"]


def test_no_bound_is_beyond_what_the_platform_takes() -> None:
    for place in OURS:
        rules = place.rules
        texts = [rules.string, rules.repeated.items.string, rules.map.keys.string, rules.map.values.string]
        assert max(max(text.max_len, text.max_bytes) for text in texts) <= LONGEST_TEXT, place
        assert max(rules.repeated.max_items, rules.map.max_pairs) <= MOST_ITEMS, place
        if place.field.name == "filter":
            assert rules.string.max_bytes == LONGEST_FILTER_BYTES, place
        if place.field.name == "page_size":
            assert (rules.int32.gte, rules.int32.lte) == (0, LARGEST_PAGE), place


# R-IN-2: the bound is where the contract says, to the character.

WHOLE = "ع"  # one character, two bytes


def _limits(name: str) -> list[Place]:
    return [place for place in OURS if not place.field.is_repeated and getattr(place.rules.string, name)]


@pytest.mark.parametrize("place", _limits("max_len"), ids=str)
def test_a_text_may_have_as_many_characters_as_it_says(place: Place) -> None:
    limit = place.rules.string.max_len

    assert "string.max_len" not in place.violations(WHOLE * limit)
    assert "string.max_len" in place.violations(WHOLE * (limit + 1))


@pytest.mark.parametrize("place", _limits("min_len"), ids=str)
def test_a_text_must_have_as_many_characters_as_it_says(place: Place) -> None:
    limit = place.rules.string.min_len

    assert "string.min_len" not in place.violations(WHOLE * limit)
    assert limit == 1 or "string.min_len" in place.violations(WHOLE * (limit - 1))


@pytest.mark.parametrize("place", _limits("max_bytes"), ids=str)
def test_a_text_may_have_as_many_bytes_as_it_says(place: Place) -> None:
    limit = place.rules.string.max_bytes

    assert "string.max_bytes" not in place.violations(WHOLE * (limit // 2) + "x" * (limit % 2))
    assert "string.max_bytes" in place.violations(WHOLE * (limit // 2) + "x" * (limit % 2 + 1))


REPEATED = [place for place in OURS if place.field.is_repeated and not _is_map(place.field)]
MAPS = [place for place in OURS if _is_map(place.field)]
NUMBERS = [place for place in OURS if place.field.type in INTEGERS and place.rules.WhichOneof("type")]


def _items(count: int, message: Descriptor | None = None) -> list[Any]:
    """Different texts, or as many messages of a kind."""
    return [f"{number:03}" if message is None else GetMessageClass(message)() for number in range(count)]


@pytest.mark.parametrize("place", REPEATED, ids=str)
def test_a_list_may_have_as_many_items_as_it_says(place: Place) -> None:
    rules = place.rules.repeated
    message = place.field.message_type
    if message is not None:
        assert "repeated.max_items" not in place.violations([GetMessageClass(message)()] * rules.max_items)
        assert "repeated.max_items" in place.violations([GetMessageClass(message)()] * (rules.max_items + 1))
        return

    message = place.field.message_type
    assert "repeated.max_items" not in place.violations(_items(rules.max_items, message))
    assert "repeated.max_items" in place.violations(_items(rules.max_items + 1, message))
    if message is not None:
        return
    if rules.unique:
        assert "repeated.unique" in place.violations(["same", "same"])
    text, longest = rules.items.string, rules.items.string.max_len
    assert "string.max_len" not in place.violations([WHOLE * longest])
    assert "string.max_len" in place.violations([WHOLE * (longest + 1)])
    assert not text.min_len or "string.min_len" in place.violations([""])


@pytest.mark.parametrize("place", MAPS, ids=str)
def test_a_map_may_have_as_many_pairs_as_it_says(place: Place) -> None:
    rules = place.rules.map
    if _value(place.field).type != STRING:
        return

    assert "map.max_pairs" not in place.violations(dict.fromkeys(_items(rules.max_pairs), "x"))
    assert "map.max_pairs" in place.violations(dict.fromkeys(_items(rules.max_pairs + 1), "x"))
    for text, pair in (
        (rules.keys.string, lambda value: {value: "x"}),
        (rules.values.string, lambda value: {"ar": value}),
    ):
        assert "string.max_len" not in place.violations(pair(WHOLE * text.max_len))
        assert "string.max_len" in place.violations(pair(WHOLE * (text.max_len + 1)))
        assert not text.min_len or "string.min_len" in place.violations(pair(""))


@pytest.mark.parametrize("place", NUMBERS, ids=str)
def test_a_number_lies_where_it_says(place: Place) -> None:
    rules = place.rules.int32

    for inside, outside in ((rules.gte, rules.gte - 1), (rules.lte, rules.lte + 1)):
        assert place.violations(inside) == set()
        assert place.violations(outside) == {"int32.gte_lte"}


def test_a_field_mask_may_have_as_many_paths_as_it_says() -> None:
    masks = [place for place in OURS if place.field.message_type and place.field.message_type.name == "FieldMask"]
    assert masks

    for place in masks:
        request = GetMessageClass(place.request)()
        mask = getattr(request, place.field.name)
        mask.paths.extend(["title.en"] * 200)
        assert place.field.name not in _broken(request)
        mask.paths.append("title.en")
        assert place.field.name in _broken(request)


CONTROLS = [chr(code) for code in (*range(32), 127) if chr(code) not in "\t\n\r"]
DIRECTIONS = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]


def test_no_text_of_a_content_takes_a_control_character() -> None:
    """R-UNI-1: C0 without tab and line breaks nowhere, and in single lines neither those nor direction marks."""
    lines = ("title", "tags", "category", "slug")
    for place, character in itertools.product(OURS, [*CONTROLS, *DIRECTIONS, "\n"]):
        if not str(place).startswith("CreateContentRequest.content."):
            continue
        name = place.field.name
        if name not in (*lines, "description", "body", "external_id", "type"):
            continue
        text = f"a{character}b"
        broken = place.violations({"en": text} if _is_map(place.field) else [text] if place.field.is_repeated else text)
        assert ("string.pattern" in broken) == (
            character in CONTROLS or name in (*lines, "type") or (name == "external_id" and character == "\n")
        ), (place, character)


def _broken(request: Message) -> set[str]:
    return {name for violation in protovalidate.collect_violations(request) for name in _names(violation)}


def test_every_broken_field_is_named_at_once_by_its_json_name() -> None:
    create = next(each for each in contracts.rpcs() if each.descriptor.name == "CreateContent")
    request: Any = GetMessageClass(create.descriptor.input_type)()
    request.content.type = "Article"
    request.content.external_id = "x" * 201
    request.content.title["en"] = ""
    request.content.tags.extend(["fine", ""])

    with pytest.raises(InvalidArgument) as refused:
        rpc.validate(request)

    assert refused.value.violations.keys() == {
        "content.type",
        "content.externalId",
        "content.title.en",
        "content.tags[1]",
    }


# The contracts as a whole.


def test_every_service_in_protos_is_known() -> None:
    in_protos = {
        f"{file.package}.{service.name}"
        for file in contracts.descriptor_set().file
        if file.package.startswith("thmnayah.")
        for service in file.service
    }

    assert {service.full_name for service in contracts.services()} == in_protos


def test_every_rpc_is_called_over_rest_or_is_internal() -> None:
    for each in contracts.rpcs():
        assert each.http or each.access.WhichOneof("rule") == "internal", each.path


def test_rest_tells_no_two_rpcs_apart_by_less_than_verb_and_address() -> None:
    addresses = [(rule.verb, rule.path) for each in contracts.rpcs() for rule in each.http]

    assert len(addresses) == len(set(addresses))


def test_what_is_read_with_get_has_no_side_effects_and_no_body() -> None:
    for each in contracts.rpcs():
        for rule in each.http:
            assert (rule.verb == "GET") == (not each.has_side_effects), each.path
            assert rule.verb not in ("GET", "DELETE") or not rule.body, each.path


def test_every_request_is_a_message_of_its_own() -> None:
    assert len(REQUESTS) == len(list(contracts.rpcs()))


def test_every_path_parameter_is_a_field_of_its_request() -> None:
    for each in contracts.rpcs():
        for rule in each.http:
            for name in (part.strip("{}") for part in rule.path.replace(":", "/").split("/") if part.startswith("{")):
                message: Descriptor | None = each.descriptor.input_type
                for part in name.split("."):
                    assert message is not None
                    message = message.fields_by_name[part].message_type
                assert message is None, f"{each.path} {name} is a message"


def test_the_descriptor_set_holds_comments_and_everything_it_imports() -> None:
    files = {file.name: file for file in contracts.descriptor_set().file}

    assert all(imported in files for file in files.values() for imported in file.dependency)
    content: descriptor_pb2.FileDescriptorProto = files["thmnayah/content/v1/content.proto"]
    assert any(location.leading_comments for location in content.source_code_info.location)
