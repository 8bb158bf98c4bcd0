-- The ledger's hear: something was said about a sender that is no answer to a request.
-- KEYS: as for a claim, but without the job: turns, the sender, the pair, the quota, the sender's holds.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local keys = { turns = KEYS[1], sender = KEYS[2], pair = KEYS[3], quota = KEYS[4], holds = KEYS[5] }
local news = hear_signal(keys, { unpack(ARGV, 3) }, 0, now)
return { text(now), #news > 0 and cjson.encode(news) or "[]" }
