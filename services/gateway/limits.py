"""Rate limits: which there are, for Envoy's configuration, and the counts that several Envoys share.

Each Envoy counts by itself, which costs no call. Envoys that are told to ask here too, over Envoy's global
rate-limit protocol; Valkey counts. docs/decisions/0017-rate-limits.md says why it is so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envoy_limits import rate_limit_pb2_grpc as envoy_grpc
from envoy_limits.rate_limit_pb2 import HeaderValue, RateLimitDescriptor, RateLimitRequest, RateLimitResponse
from grpc import StatusCode
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from libs import rpc
from services.gateway.settings import GatewaySettings

Json = dict[str, Any]

# jwt_authn leaves the claims of a token that it verified here, and of no other.
CLAIMS = "token"
_NOBODY = "-"

# For so long a sign-in waits for its count, without which it is refused.
SIGN_IN_SECONDS = 0.5

# A window is counted in so many slots, and forgotten slot by slot: what is refused too long is one of them.
SLOTS = 20

# KEYS: the count of each limit; ARGV: of each its calls, and the milliseconds of a slot. Counts a call when no
# limit is reached. Returns of each limit what is left, -1 where it is reached, and the milliseconds until a slot
# is forgotten.
_COUNT = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, over, slots = {{}}, false, {{}}
for i, key in ipairs(KEYS) do
  local calls, length = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local slot = math.floor(now / length)
  local used, oldest = 0, slot
  local held = redis.call('HGETALL', key)
  for j = 1, #held, 2 do
    local at = tonumber(held[j])
    if at < slot - {SLOTS} then
      redis.call('HDEL', key, held[j])
    else
      used, oldest = used + held[j + 1], math.min(oldest, at)
    end
  end
  slots[i] = slot
  over = over or used >= calls
  answer[2 * i - 1] = math.max(calls - used, 0) - 1
  answer[2 * i] = (oldest + {SLOTS + 1}) * length - now
end
if not over then
  for i, key in ipairs(KEYS) do
    redis.call('HINCRBY', key, slots[i], 1)
    redis.call('PEXPIRE', key, ARGV[2 * i] * {SLOTS + 1})
  end
end
return answer
"""

_uncounted = Counter("limits_uncounted_total", "Calls that nobody could count, since Valkey was away")


@dataclass(frozen=True)
class Limit:
    """So many calls of one caller in so much time."""

    calls: int
    seconds: int
    actions: Sequence[Json]
    """What Envoy makes the name of a count from."""
    entries: Sequence[tuple[str, str]]
    """What the name must be like: the key and value of each part, "" for any value."""


def limits(settings: GatewaySettings) -> list[Limit]:
    """Those that are set. A caller is whom a verified token names; anybody else is an address, as Envoy sees it."""
    anonymous = [("anonymous-minute", settings.anonymous_calls_per_minute, 60)]
    anonymous.append(("anonymous-hour", settings.anonymous_calls_per_hour, 3600))
    found = [
        Limit(
            calls,
            seconds,
            [_claim(name, "sub", absent=_NOBODY), _ADDRESS],
            [(name, _NOBODY), ("masked_remote_address", "")],
        )
        for name, calls, seconds in anonymous
    ]
    found.append(
        Limit(
            settings.person_calls_per_minute,
            60,
            [_claim("person", "sub"), _claim("key", "key", absent=_NOBODY)],
            [("person", ""), ("key", _NOBODY)],
        )
    )
    found.append(Limit(settings.key_calls_per_minute, 60, [_claim("key", "key")], [("key", "")]))
    return [limit for limit in found if limit.calls]


def _claim(key: str, claim: str, *, absent: str = "") -> Json:
    """A part of a name; without the claim, and without another value, there is no such count."""
    path = {"key": "envoy.filters.http.jwt_authn", "path": [{"key": CLAIMS}, {"key": claim}]}
    return {"metadata": {"descriptor_key": key, "metadata_key": path, "source": "DYNAMIC", "default_value": absent}}


# Whoever has an IPv6 address has the whole /64 around it.
_ADDRESS = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}


class LimitsService(envoy_grpc.RateLimitServiceServicer):
    """Answers Envoy's ratelimit filter, with one call to Valkey for all that a request is counted for."""

    def __init__(self, redis: Redis, limits: Sequence[Limit]) -> None:
        self._limits = limits
        self._count = redis.register_script(_COUNT)

    async def ShouldRateLimit(  # noqa: N802
        self,
        request: RateLimitRequest,
        context: rpc.Context,
    ) -> RateLimitResponse:
        """Count a request. Aborts with UNAVAILABLE while Valkey is away; Envoy knows what it does then."""
        asked = [
            (descriptor, limit)
            for descriptor in request.descriptors
            for limit in self._limits
            if _fits(descriptor, limit)
        ]
        if not asked:
            return RateLimitResponse(overall_code=RateLimitResponse.OK)
        keys = [f"limits:{'|'.join(entry.value for entry in each.entries)}:{limit.seconds}" for each, limit in asked]
        sizes = [size for _, limit in asked for size in (limit.calls, limit.seconds * 1000 // SLOTS)]
        try:
            counted = await self._count(keys, sizes)
        except (RedisError, OSError, TimeoutError):
            _uncounted.inc()
            await context.abort(StatusCode.UNAVAILABLE, "Valkey is away")
        # Callers hear of the limit that stops them, or will first.
        told = zip(counted[::2], counted[1::2], (limit for _, limit in asked), strict=True)
        left, milliseconds, limit = min(told, key=lambda each: (each[0], -each[1]))
        seconds = str(math.ceil(milliseconds / 1000))
        headers = {
            "x-ratelimit-limit": str(limit.calls),
            "x-ratelimit-remaining": str(max(left, 0)),
            "x-ratelimit-reset": seconds,
            **({"retry-after": seconds} if left < 0 else {}),
        }
        return RateLimitResponse(
            overall_code=RateLimitResponse.OVER_LIMIT if left < 0 else RateLimitResponse.OK,
            response_headers_to_add=[HeaderValue(key=key, value=value) for key, value in headers.items()],
        )


def _fits(descriptor: RateLimitDescriptor, limit: Limit) -> bool:
    return len(descriptor.entries) == len(limit.entries) and all(
        entry.key == key and value in ("", entry.value)
        for entry, (key, value) in zip(descriptor.entries, limit.entries, strict=True)
    )
