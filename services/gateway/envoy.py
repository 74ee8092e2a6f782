"""The edge: Envoy's configuration, made from the contracts.

Every RPC with an `http` rule gets its route, its JWT rule and its body limit from its .proto;
whatever has none is refused. `python -m services.gateway envoy` prints it.
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor

from libs import contracts, identity
from libs.errors import Failure
from services.gateway.limits import CLAIMS, SIGN_IN_SECONDS, Limit, limits
from services.gateway.settings import GatewaySettings

Json = dict[str, Any]

# A REST body may be this large, 1 MiB where the contract expects long texts.
BODY_BYTES = 64 * 1024
TEXT_BODY_BYTES = 1024 * 1024
# A field that may hold more than this makes a request a text.
TEXT_CHARACTERS = 50_000
MESSAGE_BYTES = 4 * 1024 * 1024
RESPONSE_BYTES = 64 * 1024 * 1024

DEADLINE_SECONDS = 5
LONGEST_DEADLINE_SECONDS = 30

_TYPE = "type.googleapis.com/"
_LUA = Path(__file__).parent / "edge.lua"

# Envoy's own errors: HTTP status → gRPC code, reason and message. The services' own never come here.
_ERRORS: dict[int, tuple[int, str, str, str]] = {
    400: (3, "INVALID_REQUEST", "the request cannot be read", "تعذرت قراءة الطلب"),
    401: (16, "TOKEN_INVALID", "the access token is not valid", "رمز الوصول غير صالح"),
    403: (7, "PERMISSION_DENIED", "this is not allowed", "هذا غير مسموح"),
    404: (5, "NOT_FOUND", "there is nothing at this address", "لا يوجد شيء في هذا العنوان"),
    405: (12, "METHOD_NOT_ALLOWED", "this address does not know the method", "هذا العنوان لا يقبل هذه الطريقة"),
    408: (4, "REQUEST_TIMEOUT", "the request did not arrive in time", "لم يصل الطلب في الوقت المحدد"),
    413: (8, "BODY_TOO_LARGE", "the body is too large", "حجم الطلب أكبر من المسموح"),
    415: (3, "MEDIA_TYPE_UNSUPPORTED", "send application/json", "أرسل application/json"),
    426: (9, "UPGRADE_REQUIRED", "this needs a newer protocol", "يتطلب هذا بروتوكولا أحدث"),
    429: (8, "RATE_LIMITED", "too many requests; wait a little", "طلبات كثيرة؛ انتظر قليلا"),
    431: (8, "HEADERS_TOO_LARGE", "the headers are too large", "ترويسات الطلب أكبر من المسموح"),
    500: (13, "INTERNAL", "internal error", "خطأ داخلي"),
    501: (12, "NOT_SUPPORTED", "this is not supported", "هذا غير مدعوم"),
    502: (14, "DEPENDENCY_UNAVAILABLE", "a part of the platform is not reachable; try again",
          "تعذر الوصول إلى جزء من المنصة؛ حاول مرة أخرى"),
    503: (14, "DEPENDENCY_UNAVAILABLE", "a part of the platform is not reachable; try again",
          "تعذر الوصول إلى جزء من المنصة؛ حاول مرة أخرى"),
    504: (4, "DEADLINE_EXCEEDED", "the deadline passed", "انتهت المهلة"),
}  # fmt: skip
# What gRPC calls a 404: the last of several with the same words holds.
_UNKNOWN_METHOD = (12, "NOT_FOUND", _ERRORS[404][2], _ERRORS[404][3])
_MISSING = (16, "TOKEN_MISSING", "sign in first", "سجّل الدخول أولًا")
_KEY_INVALID = (16, "API_KEY_INVALID", "the API key is not valid", "مفتاح الواجهة البرمجية غير صالح")


def bootstrap(settings: GatewaySettings) -> Json:
    """Envoy's whole configuration."""
    addresses = {
        "auth": settings.auth_address,
        "content": settings.content_address,
        "search": settings.search_address,
        "gateway": settings.gateway_address,
    }
    keys = [rpc for rpc in contracts.rpcs() if rpc.path == "/thmnayah.auth.v1.AuthService/GetJwks"]
    clusters = [_service_cluster(name, address) for name, address in addresses.items()]
    # jwt_authn asks for keys over HTTP: it is shown the auth service's RPC through a listener of its own.
    keys_pipe = {"pipe": {"path": f"{settings.envoy_sockets}/keys.sock"}}
    clusters.append(_cluster("keys", keys_pipe, http2=False))
    if settings.global_limits != "off":
        # One of its own: while nobody counts, the gateway's other answers must not look bad.
        clusters.append(_cluster("limits", _address(settings.gateway_address)))
    if settings.otlp_endpoint:
        host = re.sub("^https?://", "", settings.otlp_endpoint).rstrip("/")
        clusters.append(_cluster("otlp", _address(host)))
    return {
        "admin": {"address": {"pipe": {"path": f"{settings.envoy_sockets}/admin.sock", "mode": 0o600}}},
        "node": {"id": "edge", "cluster": "thmnayah"},
        "static_resources": {
            "listeners": [
                {
                    "name": "public",
                    "address": _address(f"{settings.http_host}:{settings.http_port}"),
                    "per_connection_buffer_limit_bytes": 32 * 1024,
                    "filter_chains": [{"filters": [_public(settings)]}],
                },
                {"name": "keys", "address": keys_pipe, "filter_chains": [{"filters": [_keys(keys)]}]},
            ],
            "clusters": clusters,
        },
        "overload_manager": _OVERLOAD,
        "layered_runtime": {
            "layers": [
                {
                    "name": "limits",
                    "static_layer": {"re2": {"max_program_size": {"error_level": 2000}}},
                }
            ]
        },
    }


def public_rpcs() -> list[contracts.Rpc]:
    """The RPCs the edge lets through: those with a REST address that are not internal."""
    return [rpc for rpc in contracts.rpcs() if rpc.http and rpc.access.WhichOneof("rule") not in (None, "internal")]


def _public(settings: GatewaySettings) -> Json:
    manager = _connection_manager("edge")
    manager |= {
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_hops,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "300s",
            "max_headers_count": 64,
        },
        "max_request_headers_kb": 8,
        "request_headers_timeout": "10s",
        "request_timeout": "30s",
        "stream_idle_timeout": "60s",
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 65_536,
            "initial_connection_window_size": 1_048_576,
        },
        "server_name": "thmnayah",
        "preserve_external_request_id": True,
        "request_id_extension": {
            "typed_config": {
                "@type": _TYPE + "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                # A caller's id stays as it was sent.
                "pack_trace_reason": False,
                "use_request_id_for_trace_sampling": False,
            }
        },
        "always_set_request_id_in_response": True,
        # Whoever names no deadline gets one, so that no call waits for ever.
        "early_header_mutation_extensions": [
            _extension(
                "envoy.http.early_header_mutation.header_mutation",
                "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=[
                    {
                        "append": {
                            "header": {"key": "grpc-timeout", "value": f"{DEADLINE_SECONDS}S"},
                            "append_action": "ADD_IF_ABSENT",
                        }
                    }
                ],
            )
        ],
        "local_reply_config": {"mappers": list(_local_replies())},
        "access_log": [_ACCESS_LOG],
        "http_filters": [
            _extension("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
            _extension(
                "envoy.filters.http.lua",
                "envoy.extensions.filters.http.lua.v3.Lua",
                default_source_code={"inline_string": _lua(settings)},
            ),
            _API_KEYS,
            _jwt_authn(settings),
            *_own_limits(settings),
            _extension(
                "envoy.filters.http.buffer",
                "envoy.extensions.filters.http.buffer.v3.Buffer",
                max_request_bytes=BODY_BYTES,
            ),
            _transcoder([service.full_name for service in contracts.services()]),
            # They count for routes to services alone, which a REST request has once it is transcoded.
            *_shared_limits(settings),
            _ROUTER,
        ],
        "route_config": {
            "name": "edge",
            "validate_clusters": False,  # one is named on purpose that does not exist
            "virtual_hosts": [
                {
                    "name": "edge",
                    "domains": ["*"],
                    "response_headers_to_add": [
                        _header(name, value) for name, value in _response_headers(settings).items()
                    ],
                    "typed_per_filter_config": {"envoy.filters.http.cors": _cors(settings.cors_origins)},
                    "routes": [*_grpc_routes(public_rpcs(), settings), *_rest_routes(settings)],
                }
            ],
        },
    }
    if settings.otlp_endpoint:
        manager["tracing"] = {
            "provider": _extension(
                "envoy.tracers.opentelemetry",
                "envoy.config.trace.v3.OpenTelemetryConfig",
                grpc_service={"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "1s"},
                service_name="thmnayah-edge",
            ),
            "spawn_upstream_span": True,
            # No more of the address than its first slash: a query may hold what people search for.
            "max_path_tag_length": 1,
        }
    return _extension("envoy.filters.network.http_connection_manager", _MANAGER, **manager)


def _keys(rpcs: list[contracts.Rpc]) -> Json:
    manager = _connection_manager("keys")
    manager |= {
        "http_filters": [_transcoder([rpcs[0].descriptor.containing_service.full_name]), _ROUTER],
        "route_config": {
            "name": "keys",
            "virtual_hosts": [{"name": "keys", "domains": ["*"], "routes": _grpc_routes(rpcs)}],
        },
    }
    return _extension("envoy.filters.network.http_connection_manager", _MANAGER, **manager)


def _connection_manager(name: str) -> Json:
    return {"stat_prefix": name, "codec_type": "AUTO"}


def _grpc_routes(rpcs: list[contracts.Rpc], settings: GatewaySettings | None = None) -> list[Json]:
    """One route for each RPC: calls over REST take it too, once they are transcoded."""
    return [
        {
            "match": {"path": rpc.path, "grpc": {}},
            "route": {
                "cluster": rpc.service,
                "timeout": "0s",
                # A service mesh routes by the authority: it must name the service, not the public host.
                "auto_host_rewrite": True,
                # The public host, which a browser's word of its page's origin is held against.
                "append_x_forwarded_host": True,
                "max_stream_duration": {
                    "max_stream_duration": f"{LONGEST_DEADLINE_SECONDS}s",
                    "grpc_timeout_header_max": f"{LONGEST_DEADLINE_SECONDS}s",
                },
                **({} if rpc.has_side_effects else {"retry_policy": _RETRY}),
            },
            **({"response_headers_to_add": [_header("cache-control", "no-store")]} if _is_private(rpc) else {}),
            # Messages are bounded by the services, and buffering would break streams.
            "typed_per_filter_config": {
                "envoy.filters.http.buffer": {"@type": _TYPE + _BUFFER_ROUTE, "disabled": True},
                **_counting(rpc, settings),
            },
        }
        for rpc in rpcs
    ]


def _is_private(rpc: contracts.Rpc) -> bool:
    """Whether its answers hold credentials, or somebody's data."""
    return rpc.service == "auth" and rpc.access.WhichOneof("rule") != "anyone"


def _rest_routes(settings: GatewaySettings) -> Iterator[Json]:
    """Where a REST request stands until it is transcoded: it brings its body's and its rate limits, and ends in 404."""
    for rpc in public_rpcs():
        for rule in rpc.http:
            configs = _counting(rpc, settings)
            if rule.body and _expects_text(rpc.descriptor.input_type):
                configs["envoy.filters.http.buffer"] = {
                    "@type": _TYPE + _BUFFER_ROUTE,
                    "buffer": {"max_request_bytes": TEXT_BODY_BYTES},
                }
            if configs:
                yield {
                    "match": {
                        "safe_regex": {"regex": _regex(rule.path)},
                        "headers": [{"name": ":method", "string_match": {"exact": rule.verb}}],
                    },
                    "route": _NOWHERE,
                    "typed_per_filter_config": configs,
                }
    yield {"match": {"connect_matcher": {}}, "direct_response": {"status": 405}}
    yield {"match": {"path": "/"}, "redirect": {"path_redirect": "/docs", "response_code": "FOUND"}}
    yield {"match": {"prefix": "/"}, "route": _NOWHERE}


def _expects_text(message: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    if message.full_name in seen:
        return False
    if message.full_name == "google.api.HttpBody":  # bounded where it stands
        return True
    for field in message.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if max(rules.string.max_len, rules.map.values.string.max_len) >= TEXT_CHARACTERS:
            return True
        if field.message_type and _expects_text(field.message_type, seen | {message.full_name}):
            return True
    return False


def _own_limits(settings: GatewaySettings) -> list[Json]:
    """What this Envoy counts by itself."""
    found = limits(settings)
    always = {"default_value": {"numerator": 100}}
    local = _extension(
        _OWN,
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="own",
        # Both are 0 % unless they are set.
        filter_enabled=always,
        filter_enforced=always,
        # Beyond so many callers those who were away longest begin anew.
        max_dynamic_descriptors=20_000,
        rate_limits=_actions(found),
        descriptors=[
            {
                "entries": [{"key": key, **({"value": value} if value else {})} for key, value in limit.entries],
                "token_bucket": {
                    "max_tokens": limit.calls,
                    "tokens_per_fill": limit.calls,
                    "fill_interval": f"{limit.seconds}s",
                },
            }
            for limit in found
        ],
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        enable_retry_after_header=True,
        rate_limited_as_resource_exhausted=True,
    )
    return [local] if found else []


def _shared_limits(settings: GatewaySettings) -> list[Json]:
    """What all Envoys count together: sign-ins, which wait for it, and perhaps the rest, which does not."""
    found = limits(settings)
    if not found or settings.global_limits == "off":
        return []
    filters = [
        _extension(
            name,
            "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            domain="edge",
            timeout=f"{seconds}s",
            rate_limit_service={
                "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}},
                "transport_api_version": "V3",
            },
            rate_limits=_actions(found),
            rate_limited_as_resource_exhausted=True,
            disable_x_envoy_ratelimited_header=True,
            **config,
        )
        for name, seconds, config in (
            (
                _SIGN_INS,
                max(SIGN_IN_SECONDS, settings.limits_seconds),
                {"failure_mode_deny": True, "status_on_error": {"code": "ServiceUnavailable"}},
            ),
            (_CALLS, settings.limits_seconds, {}),
        )
    ]
    filters[0]["disabled"] = True  # routes turn it on
    return filters if settings.global_limits == "all" else filters[:1]


def _actions(found: list[Limit]) -> list[Json]:
    return [{"actions": limit.actions} for limit in found]


def _counting(rpc: contracts.Rpc, settings: GatewaySettings | None) -> Json:
    """What an RPC's routes change about the filters that count."""
    found = limits(settings) if settings else []
    if settings is None or not found:
        return {}
    off = {"@type": _TYPE + "envoy.config.route.v3.FilterConfig", "disabled": True}
    shared = {_CALLS: off} if settings.global_limits == "all" else {}
    if not rpc.is_counted:
        return {_OWN: off, **shared}
    if rpc.signs_in and settings.global_limits != "off":
        # Where nobody can count there is no sign-in, and no need of a floor.
        route = _TYPE + "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
        return {_OWN: off, _SIGN_INS: {"@type": route, "rate_limits": _actions(found)}, **shared}
    return {}


def _jwt_authn(settings: GatewaySettings) -> Json:
    provider = {
        "issuer": identity.ISSUER,
        "audiences": [identity.AUDIENCE],
        # Named, or Envoy would also take ?access_token=.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "forward": True,
        "require_expiration": True,
        "max_lifetime": f"{identity.LONGEST_SECONDS}s",
        "clock_skew_seconds": identity.CLOCK_SKEW_SECONDS,
        # A signature costs as much as the rest of a request: each is checked once for as long as its token lives.
        "jwt_cache_config": {"jwt_cache_size": 1000},
        **({"payload_in_metadata": CLAIMS} if limits(settings) else {}),
        "remote_jwks": {
            "http_uri": {"uri": "http://keys/.well-known/jwks.json", "cluster": "keys", "timeout": "2s"},
            "cache_duration": f"{settings.jwks_cache_seconds}s",
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
        },
    }
    optional = {"requires_any": {"requirements": [{"provider_name": "auth"}, {"allow_missing": {}}]}}
    rules: list[Json] = [{"match": {"path": "/"}}]  # leads to the docs
    for rpc in public_rpcs():
        access = rpc.access.WhichOneof("rule")
        if access not in ("anyone", "by_credentials"):
            continue  # the last rule is theirs
        requires = {"requires": optional} if access == "anyone" else {}
        rules.append({"match": {"path": rpc.path}, **requires})
        for rule in rpc.http:
            match = {
                "safe_regex": {"regex": _regex(rule.path)},
                "headers": [{"name": ":method", "string_match": {"exact": rule.verb}}],
            }
            rules.append({"match": match, **requires})
    rules.append({"match": {"prefix": "/"}, "requires": {"provider_name": "auth"}})
    return _extension(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={"auth": provider},
        rules=rules,
        bypass_cors_preflight=True,
    )


def _transcoder(services: list[str]) -> Json:
    return _extension(
        "envoy.filters.http.grpc_json_transcoder",
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        # Inside, so that the configuration is one file wherever Envoy runs.
        proto_descriptor_bin=base64.b64encode(contracts.descriptor_file().read_bytes()).decode(),
        services=services,
        convert_grpc_status=True,
        query_param_unescape_plus=True,
        print_options={"always_print_primitive_fields": True},
        request_validation_options={
            "reject_unknown_method": False,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        max_request_body_size=MESSAGE_BYTES,
        max_response_body_size=RESPONSE_BYTES,
    )


def _cors(origins: str) -> Json:
    listed = [origin.strip() for origin in origins.split(",") if origin.strip()]
    return {
        "@type": _TYPE + "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [
            {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin} for origin in listed
        ],
        "allow_methods": "GET, POST, PATCH, DELETE",
        "allow_headers": "authorization, content-type, accept-language, if-match, if-none-match, x-request-id",
        "expose_headers": "etag, retry-after, x-request-id, "
        "x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset",
        "max_age": "600",
    }


def _local_replies() -> Iterator[Json]:
    """Envoy's own errors in the one shape; to gRPC callers as plain messages."""
    grpc = _header_filter("content-type", prefix="application/grpc")
    unsigned = _header_filter("authorization", present=False)
    yield {"filter": _all(_NO_KEYS, grpc), "status_code": 503, **_text_body(_ERRORS[503][2])}
    yield {"filter": _all(_KEY_REFUSED, grpc), **_text_body(_KEY_INVALID[2])}
    yield {"filter": _all(_status_filter(401), unsigned, grpc), **_text_body(_MISSING[2])}
    yield {"filter": _all(_status_filter(403), grpc), "status_code": 401, **_text_body(_ERRORS[401][2])}
    for status, (_, _, english, _) in _ERRORS.items():
        if status != 400:  # of the others, the text may name upstreams
            yield {"filter": _all(_status_filter(status), grpc), **_text_body(english)}
    yield {"filter": grpc, **_text_body("%LOCAL_REPLY_BODY%")}
    for language in ("ar", "en"):
        spoken = [_header_filter("accept-language", prefix="ar")] if language == "ar" else []
        yield {"filter": _all(_NO_KEYS, *spoken), "status_code": 503, **_json_body(_ERRORS[503], language)}
        yield {"filter": _all(_KEY_REFUSED, *spoken), **_json_body(_KEY_INVALID, language)}
        yield {"filter": _all(_status_filter(401), unsigned, *spoken), **_json_body(_MISSING, language)}
        # What jwt_authn answers to a token that was made for another audience.
        signed = _header_filter("authorization", present=True)
        refused = _all(_status_filter(403), signed, *spoken)
        yield {"filter": refused, "status_code": 401, **_json_body(_ERRORS[401], language)}
        for status, error in _ERRORS.items():
            # edge.lua makes a violation of the cause, where the request got that far.
            cause = {"cause": "%LOCAL_REPLY_BODY%"} if status == 400 else {}
            yield {"filter": _all(_status_filter(status), *spoken), **_json_body(error, language, cause)}


def _text_body(text: str) -> Json:
    return {"body_format_override": {"text_format_source": {"inline_string": text}}}


def _json_body(error: tuple[int, str, str, str], language: str, metadata: Json | None = None) -> Json:
    code, reason, english, arabic = error
    kind = "type.googleapis.com/google.rpc."
    localized = arabic if language == "ar" else english
    return {
        "body_format_override": {
            "content_type": "application/json",
            "omit_empty_values": True,
            "json_format": {
                "code": code,
                "message": english,
                "details": [
                    {"@type": kind + "ErrorInfo", "reason": reason, "domain": "thmnayah", "metadata": metadata or {}},
                    {"@type": kind + "LocalizedMessage", "locale": language, "message": localized},
                    {"@type": kind + "RequestInfo", "requestId": "%REQ(X-REQUEST-ID)%", "servingData": ""},
                ],
            },
        }
    }


def _status_filter(status: int) -> Json:
    value = {"default_value": status, "runtime_key": f"edge.status_{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _header_filter(name: str, *, prefix: str = "", present: bool = True) -> Json:
    match: Json = {"string_match": {"prefix": prefix}} if prefix else {"present_match": present}
    return {"header_filter": {"header": {"name": name, **match}}}


def _all(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}} if len(filters) > 1 else filters[0]


def _lua(settings: GatewaySettings) -> str:
    """edge.lua with what it is told in front."""
    bound: list[str] = []
    for rpc in public_rpcs():
        for rule in rpc.http:
            names = {name for field in re.findall(r"{([^}=]+)", rule.path) for name in (field, _camel(field))}
            if names or rule.body:
                fields = ", ".join(f"[{json.dumps(name)}] = true" for name in sorted(names))
                bound.append(
                    f"  {{method = {json.dumps(rule.verb)}, pattern = {json.dumps(_lua_pattern(rule.path))},"
                    f" fields = {{{fields}}}, body = {json.dumps(_camel(rule.body))}}},"
                )
    errors = [
        f'  ["{status}"] = {{code = {code}, reason = {json.dumps(reason)}, en = {json.dumps(english)},'
        f" ar = {json.dumps(arabic, ensure_ascii=False)}}},"
        for status, (code, reason, english, arabic) in [
            *_ERRORS.items(),
            ("TOKEN_MISSING", _MISSING),
            ("API_KEY_INVALID", _KEY_INVALID),
        ]
    ]
    details = {
        (english, language): base64.b64encode(
            Failure(reason, english, arabic).status(language=language, request_id="", code=code).SerializeToString()
        ).decode()
        for code, reason, english, arabic in (*_ERRORS.values(), _MISSING, _KEY_INVALID, _UNKNOWN_METHOD)
        for language in ("ar", "en")
    }
    grpc = [
        f"  [{json.dumps(f'{language} {english}')}] = {json.dumps(each)},"
        for (english, language), each in details.items()
    ]
    tables = ["BOUND = {", *bound, "}", "ERRORS = {", *errors, "}", "DETAILS = {", *grpc, "}"]
    tables.append(f"BEHIND_PROXIES = {json.dumps(settings.trusted_hops > 0)}")
    tables.append(f"COUNTED_TWICE = {json.dumps(settings.global_limits == 'all')}")
    return "\n".join([*tables, _LUA.read_text("utf-8")])


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _regex(path: str) -> str:
    """A path of the contract as an RE2 expression; a slash at the end is one the transcoder overlooks too."""
    parts = re.split(r"({[^}]+})", path)
    return "".join("[^/:]+" if part.startswith("{") else re.escape(part) for part in parts) + "/?"


def _lua_pattern(path: str) -> str:
    """The same as a Lua pattern; a slash at the end is one the transcoder overlooks too."""
    parts = re.split(r"({[^}]+})", path)
    return (
        "^" + "".join("[^/]+" if part.startswith("{") else re.sub(r"([^\w/:])", r"%\1", part) for part in parts) + "/?$"
    )


def _response_headers(settings: GatewaySettings) -> dict[str, str]:
    if not settings.hsts_seconds:
        return _RESPONSE_HEADERS
    return _RESPONSE_HEADERS | {"strict-transport-security": f"max-age={settings.hsts_seconds}; includeSubDomains"}


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "ADD_IF_ABSENT"}


def _service_cluster(name: str, address: str) -> Json:
    return _cluster(name, _address(address)) | {
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "2s",
                "no_traffic_interval": "2s",
                "unhealthy_interval": "0.5s",
                "no_traffic_healthy_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        # With one endpoint left, an unhealthy one answers better than nobody.
        "common_lb_config": {"healthy_panic_threshold": {"value": 50}},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1024,
                    "max_pending_requests": 1024,
                    "max_requests": 1024,
                    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 3},
                }
            ]
        },
        "outlier_detection": {"consecutive_5xx": 5, "base_ejection_time": "5s", "max_ejection_percent": 50},
    }


def _cluster(name: str, address: Json, *, http2: bool = True) -> Json:
    protocol: Json = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    return {
        "name": name,
        "type": "STATIC" if "pipe" in address else "STRICT_DNS",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
            }
        },
    }


def _address(host_port: str) -> Json:
    host, _, port = host_port.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _extension(name: str, kind: str, **config: Any) -> Json:
    return {"name": name, "typed_config": {"@type": _TYPE + kind, **config}}


# jwt_authn has no keys yet, since the auth service is away: the token is not to blame.
_NO_KEYS = {
    "extension_filter": _extension(
        "envoy.access_loggers.extension_filters.cel",
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression="response.code_details.contains('Jwks_remote_fetch')",
    )
}
# Of requests that bring a key the auth service is asked, and nobody passes while it is away.
_KEY_REFUSED = {
    "extension_filter": _extension(
        "envoy.access_loggers.extension_filters.cel",
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression="response.code_details == 'ext_authz_denied'",
    )
}
_API_KEYS = _extension(
    "envoy.filters.http.ext_authz",
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    grpc_service={"envoy_grpc": {"cluster_name": "auth"}, "timeout": "1s"},
    transport_api_version="V3",
    failure_mode_allow=False,
    status_on_error={"code": "ServiceUnavailable"},
    # As edge.lua found it.
    filter_enabled_metadata={"filter": "edge", "path": [{"key": "api_key"}], "value": {"bool_match": True}},
    allowed_headers={
        "patterns": [{"exact": name} for name in ("authorization", "user-agent", "x-forwarded-for", "x-request-id")]
    },
)
# A 404. Not a direct response: the CORS filter looks at routes to clusters alone.
_NOWHERE = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}
_RESPONSE_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    # The same address answers an editor and a reader differently.
    "vary": "authorization, x-api-key, accept-language, origin",
}
# The filters that count.
_OWN, _SIGN_INS, _CALLS = "own_limits", "sign_in_limits", "call_limits"
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_BUFFER_ROUTE = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"
_ROUTER = _extension(
    "envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True
)
# Reads alone; a write that failed is the caller's to repeat.
_RETRY = {
    # What never reached a service; the clients repeat the rest, and two layers would multiply.
    "retry_on": "connect-failure,refused-stream",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
}
_OVERLOAD = {
    "refresh_interval": "0.25s",
    "resource_monitors": [
        _extension(
            "envoy.resource_monitors.fixed_heap",
            "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
            max_heap_size_bytes=512 * 1024 * 1024,
        ),
        _extension(
            "envoy.resource_monitors.global_downstream_max_connections",
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=10_000,
        ),
    ],
    "actions": [
        {
            "name": f"envoy.overload_actions.{action}",
            "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": value}}],
        }
        for action, value in (("shrink_heap", 0.95), ("stop_accepting_requests", 0.98))
    ],
}
# Failures and slow answers; the address without its query, which may hold what people search for.
_ACCESS_LOG = {
    "name": "envoy.access_loggers.stdout",
    "filter": {
        "or_filter": {
            "filters": [
                {
                    "status_code_filter": {
                        "comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "edge.log_status"}}
                    }
                },
                {
                    "duration_filter": {
                        "comparison": {"op": "GE", "value": {"default_value": 1000, "runtime_key": "edge.log_ms"}}
                    }
                },
            ]
        }
    },
    "typed_config": {
        "@type": _TYPE + "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        "log_format": {
            "json_format": {
                "timestamp": "%START_TIME%",
                "service": "edge",
                "method": "%REQ(:METHOD)%",
                "path": "%PATH(NQ:ORIG)%",
                "status": "%RESPONSE_CODE%",
                "flags": "%RESPONSE_FLAGS%",
                "milliseconds": "%DURATION%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "trace_id": "%TRACE_ID%",
            }
        },
    },
}
