-- What an answer says about its sender, kept: read, judged by standing.lua, written.

local function read_standing(keys, template, now)
    local sender = redis.call("HMGET", keys.sender, "cut_rate", "cut_at", "unanswered")
    local quota = redis.call("HMGET", keys.quota, "until", "pauses")
    local sender_hold, template_hold = read_holds(keys.holds, template, now)
    return {
        cut = read_cut(sender[1], sender[2]), unanswered = tonumber(sender[3] or "0"),
        quota_until = tonumber(quota[1] or "0"), quota_pauses = tonumber(quota[2] or "0"),
        sender_hold = sender_hold, template_hold = template_hold,
    }
end

local function write_sender(key, standing)
    redis.call("HSET", key, "unanswered", text(standing.unanswered))
    if standing.cut ~= nil then
        redis.call("HSET", key, "cut_rate", text(standing.cut.rate), "cut_at", text(standing.cut.at))
    end
    keep(key, SENDER_KEPT_S)
end

local function write_quota(key, standing, now)
    redis.call("HSET", key, "until", text(standing.quota_until), "pauses", text(standing.quota_pauses))
    keep(key, math.max(standing.quota_until - now, 0) + SENDER_KEPT_S)
end

-- A new hold is the moment to drop those that are over.
local function tidy_holds(key, now)
    local flat = redis.call("HGETALL", key)
    for i = 1, #flat, 2 do
        if is_over(flat[i], cjson.decode(flat[i + 1]), now) then
            redis.call("HDEL", key, flat[i])
        end
    end
end

local function keep_hold(key, field, before, after, now)
    if before ~= nil and after == nil then
        redis.call("HDEL", key, field)
    elseif before == nil and after ~= nil then
        tidy_holds(key, now)
        write_hold(key, field, after)
    elseif before ~= after then
        write_hold(key, field, after)
    end
end

-- The recipient waits; the refused job has a turn, where it is tried again in time.
local function put_off_pair(keys, heard, run, retry, latest_start, now)
    if heard.pair_until == nil then
        return
    end
    local paid = tonumber(redis.call("GET", keys.pair) or "0")
    local ends_at = math.max(heard.pair_until, now)
    local paid_until, turn = put_off(paid, ends_at, heard.begun_at, retry and latest_start)
    write_pair(keys.pair, paid_until, now)
    if turn ~= nil then
        write_turn(keys.turns, run, retry, turn, now)
    end
end

-- keys: turns, sender, pair, quota, holds; told: what `heard_arguments` writes; run: of the attempt that was answered,
-- where one was. Returns the news.
local function hear_signal(keys, told, run, now)
    local template = told[5]
    local heard = {
        signal = told[1], begun_at = tonumber(told[2]), pause_s = tonumber(told[3]), rate = tonumber(told[4]),
        error = optional(told[6]), remedy = optional(told[7]), pair_until = tonumber(told[8]),
        by_report = told[11] == "1",
    }
    put_off_pair(keys, heard, run, optional(told[9]), tonumber(told[10]), now)
    local standing = read_standing(keys, template, now)
    local cut, unanswered, quota_until = standing.cut, standing.unanswered, standing.quota_until
    local pauses, sender_hold, template_hold = standing.quota_pauses, standing.sender_hold, standing.template_hold
    local news = hear(heard, standing, now)
    if standing.cut ~= cut or standing.unanswered ~= unanswered then
        write_sender(keys.sender, standing)
    end
    if standing.quota_until ~= quota_until or standing.quota_pauses ~= pauses then
        write_quota(keys.quota, standing, now)
    end
    keep_hold(keys.holds, WHOLE, sender_hold, standing.sender_hold, now)
    keep_hold(keys.holds, template, template_hold, standing.template_hold, now)
    for _, one in ipairs(news) do
        one.at = text(now)
    end
    return news
end
