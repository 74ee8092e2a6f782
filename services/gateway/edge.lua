-- What Envoy's own filters cannot do for the REST API: keep the query from overriding the path,
-- answer conditional requests, and give Envoy's own errors the one shape. Envoy runs it per request.
-- BOUND, ERRORS, DETAILS, BEHIND_PROXIES and COUNTED_TWICE are put in front of this file by envoy.py.

local function decode(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- The transcoder lets ?id= override /{id}, and fills from the query what the body is for; nobody
-- means that well, and a query is logged on its way.
local function misplaced(method, path)
  local address, query = path:match("^([^?]*)%?(.*)$")
  if not query then return nil end
  for _, rule in ipairs(BOUND) do
    if rule.method == method and address:match(rule.pattern) then
      for pair in query:gmatch("[^&]+") do
        local name = decode(pair:match("^[^=]*"))
        if rule.fields[name] then return name, "path" end
        local camel = name:gsub("_(%w)", string.upper)
        if rule.body == "*" or (rule.body ~= "" and camel:match("^" .. rule.body .. "%f[^%w_]")) then return name, "body" end
      end
    end
  end
end

-- "ar" when it is preferred to English, as the services have it.
local function language(accepted)
  local best, weight = "en", 0
  for choice in accepted:gmatch("[^,]+") do
    local tag, quality = choice:match("^%s*(%a+)[^;]*;%s*[qQ]=([%d.]+)%s*$")
    if not choice:find(";") then tag, quality = choice:match("^%s*(%a+)"), "1" end
    tag, quality = (tag or ""):lower(), tonumber(quality) or 0
    if (tag == "ar" or tag == "en") and quality > weight then best, weight = tag, quality end
  end
  return best
end

function envoy_on_request(handle)
  local headers = handle:headers()
  handle:streamInfo():dynamicMetadata():set("edge", "request", {
    if_match = headers:get("if-match") or "",
    if_none_match = headers:get("if-none-match") or "",
    language = language(headers:get("accept-language") or ""),
    id = headers:get("x-request-id") or "",
    rest = not (headers:get("content-type") or ""):match("^application/grpc"),
    scim = (headers:get(":path") or ""):match("^/scim/") and headers:get(":method") or "",
  })
  -- Services take the last address for the caller's: here that would be the proxy's.
  if BEHIND_PROXIES then
    local address = handle:streamInfo():downstreamRemoteAddress():gsub(":%d+$", ""):gsub("[%[%]]", "")
    headers:replace("x-forwarded-for", address)
  end
  -- The scheme is to be read in any case (RFC 9110); jwt_authn knows one.
  local scheme, token = (headers:get("authorization") or ""):match("^(%a+) (.*)$")
  if scheme and scheme ~= "Bearer" and scheme:lower() == "bearer" then headers:replace("authorization", "Bearer " .. token) end
  local key = headers:get("x-api-key")
  if key then
    if headers:get("authorization") then
      handle:respond({[":status"] = "400"}, "x-api-key: may not stand beside authorization")
      return
    end
    headers:remove("x-api-key")
    headers:add("authorization", "Bearer " .. key)
  end
  -- Asked about by ext_authz, which knows this name and puts a token in the place of the key.
  if (headers:get("authorization") or ""):find("^Bearer thm_") then
    handle:streamInfo():dynamicMetadata():set("edge", "api_key", true)
  end
  local name, place = misplaced(headers:get(":method"), headers:get(":path"))
  if name then
    handle:respond({[":status"] = "400"}, name .. ": belongs in the " .. place .. " and may not stand in the query")
  end
end

local function matches(condition, etag)
  for each in condition:gmatch('[^,%s][^,]*') do
    each = each:gsub("^W/", ""):gsub("%s+$", "")
    if each == etag or each == "*" then return true end
  end
  return false
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

-- The field that Envoy's own words for an unreadable request are about, and what is wrong with it.
local function reading_problem(text)
  local said = text:match('"cause":"(.*)"},"reason"') or text
  said = said:gsub("\\n.*", ""):gsub("\n.*", ""):gsub('\\"', '"'):gsub("[^\32-\126]", "?"):sub(1, 200)
  local unknown = said:match('find field "([^"]+)"')
  if unknown then return unknown, "is not a field of this request" end
  local bound = said:match("of the field ([%w_.]+) is conflicting")
  if bound then return bound:gsub("_(%w)", string.upper), "is in the path and may not differ elsewhere" end
  local field, problem = said:match("^([%w_.%[%]]*): (.*)$")
  if not field then return nil, said end
  -- Where an object or a list stands for something else, Envoy names the message and then its field.
  local inner = problem:match("scalar field for type ([%w_]+)$") or problem:match("for field '([%w_]+)'")
  if inner then return (field ~= "" and field .. "." or "") .. inner:gsub("_(%w)", string.upper), "is of another type" end
  if field == "" then return nil, problem end
  -- content.title[0].value is how Envoy names an entry of the map content.title.
  field = field:gsub("%[%d+%]%.value$", ""):gsub("%[%d+%]%.key$", ""):gsub("_(%w)", string.upper)
  return field, (problem:gsub(" for type type%.googleapis%.com/.*", ""):gsub(" for type TYPE_", ", which must be of type "))
end

local function error_body(status, request, text, delay)
  local known = ERRORS[text:match('"reason":"(TOKEN_MISSING)"') or text:match('"reason":"(API_KEY_INVALID)"') or status] or ERRORS["500"]
  local kind = "type.googleapis.com/google.rpc."
  local message, told, violation = known.en, known[request.language], ""
  if status == "400" then
    local field, said = reading_problem(text)
    if field then message = field .. ": " .. said elseif said ~= "" then message = known.en .. ": " .. said end
    if request.language == "en" then told = message end
    if field then
      violation = ',{"@type":"' .. kind .. 'BadRequest","fieldViolations":[{"field":' .. quoted(field)
        .. ',"description":' .. quoted(said) .. "}]}"
    end
  end
  local retry = delay and ',{"@type":"' .. kind .. 'RetryInfo","retryDelay":' .. quoted(delay .. "s") .. "}" or ""
  return table.concat({
    '{"code":', known.code, ',"message":', quoted(message), ',"details":[',
    '{"@type":"', kind, 'ErrorInfo","reason":"', known.reason, '","domain":"thmnayah","metadata":{}},',
    '{"@type":"', kind, 'LocalizedMessage","locale":"', request.language, '","message":', quoted(told), '},',
    '{"@type":"', kind, 'RequestInfo","requestId":', quoted(request.id), ',"servingData":""}', violation, retry, "]}",
  })
end

-- The text that follows the last of some words of JSON, in its quotes.
local function quoted_after(text, words)
  local _, start = text:find(words, 1, true)
  local stop = start
  while stop do
    stop = text:find('["\\]', stop + 1)
    if stop and text:byte(stop) == 34 then return text:sub(start, stop) end
    stop = stop and stop + 1
  end
end

-- Whether an error has the one shape: Envoy's own begins otherwise, and gRPC's own, such as that a deadline has
-- passed when the call arrives, has no details.
local function is_of_a_service(text)
  return text:find('^{"code":%d+,"message":') and not text:find('"details":%[%]}%s*$')
end

-- What RFC 7644 makes of an error that has the one shape.
local function scim_error(status, request, text)
  local scim_type = text:match('"scimType":"(%a+)"')
  return table.concat({
    '{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"', status, '"',
    scim_type and ',"scimType":"' .. scim_type .. '"' or "",
    ',"detail":', quoted_after(text, '"locale":"' .. request.language .. '","message":"') or '""', "}",
  })
end

-- RFC 7644 has statuses, a media type and errors of its own.
local function answer_scim(handle, request)
  local headers = handle:headers()
  local status = headers:get(":status")
  if status == "200" and request.scim == "POST" then headers:replace(":status", "201") end
  if status == "200" and request.scim == "DELETE" then
    headers:replace(":status", "204")
    headers:remove("content-type")
  elseif tonumber(status) >= 400 then
    headers:replace("content-type", "application/scim+json")
  else
    return
  end
  headers:remove("content-length")
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  if status == "200" then
    if body then body:setBytes("") end
    handle:headers():remove("content-length")
    return
  end
  if status == "409" and request.if_match ~= "" and text:find('"reason":"ETAG_MISMATCH"', 1, true) then
    status = "412"
    handle:headers():replace(":status", status)
  end
  local delay = text:match('"retryDelay":"([%d.]+)s"')
  if delay then handle:headers():replace("retry-after", tostring(math.ceil(tonumber(delay)))) end
  if not is_of_a_service(text) then text = error_body(status, request, text) end
  if body then body:setBytes(scim_error(status, request, text)) end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local request = (handle:streamInfo():dynamicMetadata():get("edge") or {}).request
  if not request then return end
  -- Two filters wrote them; the count of all Envoys stands first, and holds.
  if COUNTED_TWICE then
    for _, name in ipairs({"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}) do
      local value = headers:get(name)
      if value and value:find(",") then headers:replace(name, value:match("^[^,]+")) end
    end
  end
  if not request.rest then
    -- Envoy's own refusal of a gRPC call: a message alone. Programs branch on the reason.
    local details = DETAILS[request.language .. " " .. (headers:get("grpc-message") or "")]
    if details and not headers:get("grpc-status-details-bin") then headers:add("grpc-status-details-bin", details) end
    return
  end
  for _, name in ipairs({"grpc-status", "grpc-message", "grpc-accept-encoding"}) do headers:remove(name) end
  if request.scim ~= "" then return answer_scim(handle, request) end
  local status = headers:get(":status")
  local retry_after = headers:get("retry-after")
  local etag = headers:get("etag")
  -- What was got before the body is asked for is dead after it: ask for the headers anew.
  if status == "200" and headers:get("location") then
    headers:replace(":status", "301")
  elseif status == "200" then
    if etag and request.if_none_match ~= "" and matches(request.if_none_match, etag) then
      headers:replace(":status", "304")
      headers:remove("content-type")
      local body = handle:body()
      if body then body:setBytes("") end
      handle:headers():remove("content-length")
    end
  elseif status == "409" and request.if_match ~= "" then
    local body = handle:body()
    if body and body:getBytes(0, body:length()):find('"reason":"ETAG_MISMATCH"', 1, true) then
      handle:headers():replace(":status", "412")
    end
  elseif tonumber(status) >= 400 then
    headers:replace("content-type", "application/json")
    headers:remove("content-length")
    local body = handle:body()
    local text = body and body:getBytes(0, body:length()) or ""
    local delay = text:match('"retryDelay":"([%d.]+)s"')
    if delay then handle:headers():replace("retry-after", tostring(math.ceil(tonumber(delay)))) end
    if body and not is_of_a_service(text) then
      body:setBytes(error_body(status, request, text, retry_after))
    end
  end
end
