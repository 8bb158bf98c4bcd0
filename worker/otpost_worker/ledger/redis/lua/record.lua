-- The ledger's record: the outcome of a claim, and what it says about its sender.
-- KEYS: the job, what is kept of its body, the provider's message; where something was heard also its turns, the
-- sender, the pair, the quota, the sender's holds.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local number, attempt_number, token = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local entry = {
    state = ARGV[6], kind = optional(ARGV[7]), step = ARGV[8], status = optional(ARGV[9]), has_letter = ARGV[10] == "1",
    due_at = optional(ARGV[11]), message_id = optional(ARGV[12]),
}
local kept = ARGV[13]
local KEPT, MESSAGE = KEYS[2], KEYS[3]
local TURNS, SENDER, PAIR, QUOTA, HOLDS = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]

local job = Job.load(KEYS[1])
local run = job.runs[number]
local attempt = run and run.attempts[attempt_number]

local function read_standing(template)
    local sender = redis.call("HMGET", SENDER, "cut_rate", "cut_at", "unanswered")
    local quota = redis.call("HMGET", QUOTA, "until", "pauses")
    local sender_hold, template_hold = read_holds(HOLDS, template, now)
    return {
        cut = read_cut(sender[1], sender[2]), unanswered = tonumber(sender[3] or "0"),
        quota_until = tonumber(quota[1] or "0"), quota_pauses = tonumber(quota[2] or "0"),
        sender_hold = sender_hold, template_hold = template_hold,
    }
end

local function write_sender(standing)
    redis.call("HSET", SENDER, "unanswered", text(standing.unanswered))
    if standing.cut ~= nil then
        redis.call("HSET", SENDER, "cut_rate", text(standing.cut.rate), "cut_at", text(standing.cut.at))
    end
    keep(SENDER, SENDER_KEPT_S)
end

local function write_quota(standing)
    redis.call("HSET", QUOTA, "until", text(standing.quota_until), "pauses", text(standing.quota_pauses))
    keep(QUOTA, math.max(standing.quota_until - now, 0) + SENDER_KEPT_S)
end

-- A new hold is the moment to drop those that are over.
local function tidy_holds()
    local flat = redis.call("HGETALL", HOLDS)
    for i = 1, #flat, 2 do
        if is_over(flat[i], cjson.decode(flat[i + 1]), now) then
            redis.call("HDEL", HOLDS, flat[i])
        end
    end
end

local function keep_hold(field, before, after)
    if before ~= nil and after == nil then
        redis.call("HDEL", HOLDS, field)
    elseif before == nil and after ~= nil then
        tidy_holds()
        write_hold(HOLDS, field, after)
    end
end

-- The recipient waits; the refused job has a turn, where it is tried again in time.
local function put_off_pair(heard, retry, latest_start)
    if heard.pair_until == nil then
        return
    end
    local paid = tonumber(redis.call("GET", PAIR) or "0")
    local ends_at = math.max(heard.pair_until, now)
    local paid_until, turn = put_off(paid, ends_at, heard.begun_at, retry and latest_start)
    write_pair(PAIR, paid_until, now)
    if turn ~= nil then
        write_turn(TURNS, number, retry, turn, now)
    end
end

local function hear_signal()
    if SENDER == nil then
        return {}
    end
    local template = ARGV[18]
    local heard = {
        signal = ARGV[14], begun_at = tonumber(ARGV[15]), pause_s = tonumber(ARGV[16]), rate = tonumber(ARGV[17]),
        error = optional(ARGV[19]), remedy = optional(ARGV[20]), pair_until = tonumber(ARGV[21]),
    }
    put_off_pair(heard, optional(ARGV[22]), tonumber(ARGV[23]))
    local standing = read_standing(template)
    local cut, unanswered, quota_until = standing.cut, standing.unanswered, standing.quota_until
    local pauses, sender_hold, template_hold = standing.quota_pauses, standing.sender_hold, standing.template_hold
    local news = hear(heard, standing, now)
    if standing.cut ~= cut or standing.unanswered ~= unanswered then
        write_sender(standing)
    end
    if standing.quota_until ~= quota_until or standing.quota_pauses ~= pauses then
        write_quota(standing)
    end
    keep_hold(WHOLE, sender_hold, standing.sender_hold)
    keep_hold(template, template_hold, standing.template_hold)
    for _, one in ipairs(news) do
        one.at = text(now)
    end
    return news
end

-- Returns how to read the reply, and the envelope, the body, the step and whether it is buried.
local function record()
    if attempt == nil then
        return "unknown"
    end
    local ours = attempt.token == token
    local settles = (ours and attempt.state == "claimed") or (entry.message_id ~= nil and attempt.state == "unknown")
    if settles and run.status == nil then
        job:write_entry(run, attempt, entry, now)
        if kept ~= "" then
            keep_until_deadline(KEPT, run, kept, now)
        end
        return "entry", run.envelope, job:body(run)
    end
    if ours and attempt.state == "settled" then
        -- The same call again: the first one was done, but its answer was lost on the way.
        if run.status == nil then
            return "none"
        end
        return "end", job:recorded_end(run)
    end
    if ours and attempt.state == entry.state then
        return "entry", run.envelope, job:body(run)
    end
    -- Too late: somebody has drawn another conclusion, which stands. The provider's id is kept all the same.
    if attempt.provider_message_id == nil and entry.message_id ~= nil then
        attempt.provider_message_id = entry.message_id
        job:save_attempt(run, attempt)
    end
    return "none"
end

local again = attempt ~= nil and attempt.token == token and attempt.state ~= "claimed"
local told = "[]"
if again then
    told = attempt.news or "[]"
else
    local news = hear_signal()
    if #news > 0 then
        told = cjson.encode(news)
        if attempt ~= nil then
            attempt.news = told
        end
    end
end
local reply = { record() }
if attempt ~= nil and entry.message_id ~= nil and attempt.provider_message_id == entry.message_id then
    job:name_message(MESSAGE, run, attempt, now)
end
if not again and attempt ~= nil and attempt.news ~= nil then
    job:save_attempt(run, attempt)
end
return { text(now), told, unpack(reply) }
