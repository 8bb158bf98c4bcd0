-- The ledger's hear: something was said about a sender that is no answer to a request.
-- KEYS: as for a claim, but without the job: turns, the sender, the pair, the quota, the sender's holds; and what was
-- said last of the sender by webhook: one hash, its fields "topic/template/language".

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local topic, said_at, notice, signal = optional(ARGV[3]), ARGV[4], optional(ARGV[5]), ARGV[6]
local keys = { turns = KEYS[1], sender = KEYS[2], pair = KEYS[3], quota = KEYS[4], holds = KEYS[5] }
local WORDS = KEYS[6]

-- standing.heed in Lua: the news of what is not the newest word; nil where it is.
local function heed()
    local found = topic and redis.call("HGET", WORDS, topic)
    local last = found and cjson.decode(found)
    if not last or tonumber(last.kept_until) <= now or tonumber(said_at) > tonumber(last.said_at) then
        return nil
    end
    if tonumber(said_at) < tonumber(last.said_at) then
        return "[]"
    end
    return signal == last.signal and notice == last.notice and last.news or nil
end

-- A new word is the moment to drop those that are over: a webhook may name any template.
local function keep_word(word)
    local flat = redis.call("HGETALL", WORDS)
    for i = 1, #flat, 2 do
        if tonumber(cjson.decode(flat[i + 1]).kept_until) <= now then
            redis.call("HDEL", WORDS, flat[i])
        end
    end
    redis.call("HSET", WORDS, topic, cjson.encode(word))
    keep(WORDS, WORD_KEPT_S)
end

local known = heed()
if known ~= nil then
    return { text(now), known }
end
local news = hear_signal(keys, { unpack(ARGV, 6) }, 0, now)
local told = #news > 0 and cjson.encode(news) or "[]"
if topic ~= nil then
    keep_word({
        said_at = said_at, signal = signal, notice = notice, news = told, kept_until = text(now + WORD_KEPT_S),
    })
end
return { text(now), told }
