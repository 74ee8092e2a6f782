-- What Envoy's own filters cannot do for the REST API: keep the query from overriding the path,
-- answer conditional requests, and give Envoy's own errors the one shape. Envoy runs it per request.
-- BOUND and ERRORS are put in front of this file by envoy.py.

local function decode(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- The transcoder lets ?id= override /{id}; nobody means that well.
local function overridden(method, path)
  local address, query = path:match("^([^?]*)%?(.*)$")
  if not query then return nil end
  for _, rule in ipairs(BOUND) do
    if rule.method == method and address:match(rule.pattern) then
      for pair in query:gmatch("[^&]+") do
        local name = decode(pair:match("^[^=]*"))
        if rule.fields[name] then return name end
      end
    end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = overridden(headers:get(":method"), headers:get(":path"))
  if name then
    handle:respond({[":status"] = "400"}, name .. ": belongs in the path and may not stand in the query")
    return
  end
  local language = headers:get("accept-language") or ""
  handle:streamInfo():dynamicMetadata():set("edge", "request", {
    if_match = headers:get("if-match") or "",
    if_none_match = headers:get("if-none-match") or "",
    language = language:match("^%s*ar") and "ar" or "en",
    id = headers:get("x-request-id") or "",
    rest = not (headers:get("content-type") or ""):match("^application/grpc"),
  })
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

local function error_body(status, request)
  local known = ERRORS[status] or ERRORS["500"]
  local kind = "type.googleapis.com/google.rpc."
  return table.concat({
    '{"code":', known.code, ',"message":', quoted(known.en), ',"details":[',
    '{"@type":"', kind, 'ErrorInfo","reason":"', known.reason, '","domain":"thmnayah","metadata":{}},',
    '{"@type":"', kind, 'LocalizedMessage","locale":"', request.language, '","message":', quoted(known[request.language]), '},',
    '{"@type":"', kind, 'RequestInfo","requestId":', quoted(request.id), ',"servingData":""}]}',
  })
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local request = (handle:streamInfo():dynamicMetadata():get("edge") or {}).request
  if not request or not request.rest then return end
  for _, name in ipairs({"grpc-status", "grpc-message", "grpc-accept-encoding"}) do headers:remove(name) end
  local status = headers:get(":status")
  local etag = headers:get("etag")
  if status == "200" then
    if etag and request.if_none_match ~= "" and matches(request.if_none_match, etag) then
      handle:body():setBytes("")
      headers:replace(":status", "304")
      headers:remove("content-length")
      headers:remove("content-type")
    end
  elseif status == "409" and request.if_match ~= "" then
    headers:replace(":status", "412")
  elseif tonumber(status) >= 400 then
    -- A reply of Envoy's own that passed the transcoder names no reason.
    local body = handle:body()
    local text = body and body:getBytes(0, body:length()) or ""
    if not text:find('"reason"', 1, true) then
      local length = body:setBytes(error_body(status, request))
      headers:replace("content-length", length)
      headers:replace("content-type", "application/json")
    end
  end
end
