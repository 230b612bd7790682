-- wrk posts documents whose ids no other request has. All that it does for one is a copy.
-- Arguments: the file with the templates, cut at \0 and ended by \1; the run's number; where
-- this process begins to count. The figures go to standard output as one line of JSON.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local templates, run, count, last = {}, 0, 0, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local all = file:read("*a")
  file:close()
  run = tonumber(args[2])
  count = tonumber(args[3]) + number * 1000000
  for text in all:gmatch("([^\1]+)\1") do
    local parts = {}
    for part in (text .. "\0"):gmatch("(%Z*)%z") do
      parts[#parts + 1] = part
    end
    local length = #text + (#parts - 1) * (11 - 1)
    parts[1] = string.format(
      "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s",
      wrk.path, wrk.headers["Host"], length, parts[1])
    templates[#templates + 1] = parts
  end
end

function request()
  count = count + 1
  return table.concat(templates[count % #templates + 1], string.format("%03d%08d", run, count))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d,'
    .. ' "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
