-- Sends the requests of a file one after the other, each thread from another place on, and prints figures as JSON.
-- The file: of each request its length (4 bytes, the lowest first) and its bytes.

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local data = file:read("*a")
   file:close()
   requests, count = {}, 0
   local at, size = 1, #data
   while at < size do
      local a, b, c, d = string.byte(data, at, at + 3)
      local length = a + 256 * (b + 256 * (c + 256 * d))
      count = count + 1
      requests[count] = string.sub(data, at + 4, at + 3 + length)
      at = at + 4 + length
   end
   place = number * math.floor(count / 7)
end

function request()
   place = place % count + 1
   return requests[place]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      '\nFIGURES {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
