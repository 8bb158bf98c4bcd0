-- The ledger's hear: something was said about a sender that is no answer to a request.
-- KEYS: as for a claim, but without the job: turns, the sender, the pair, the quota, the sender's holds; and what was
-- said last of the same.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local keys = { turns = KEYS[1], sender = KEYS[2], pair = KEYS[3], quota = KEYS[4], holds = KEYS[5] }
local WORD, signal, said_at = KEYS[6], ARGV[3], optional(ARGV[#ARGV])

-- standing.heed in Lua: the news of what is not the newest word; nil where it is.
local function heed()
    local last = redis.call("HMGET", WORD, "said_at", "signal", "news")
    if said_at == nil or not last[1] or tonumber(said_at) > tonumber(last[1]) then
        return nil
    end
    if tonumber(said_at) < tonumber(last[1]) then
        return "[]"
    end
    return signal == last[2] and last[3] or nil
end

local known = heed()
if known ~= nil then
    return { text(now), known }
end
local news = hear_signal(keys, { unpack(ARGV, 3, #ARGV - 1) }, 0, now)
local told = #news > 0 and cjson.encode(news) or "[]"
if said_at ~= nil then
    redis.call("HSET", WORD, "said_at", said_at, "signal", signal, "news", told)
    keep(WORD, WORD_KEPT_S)
end
return { text(now), told }
