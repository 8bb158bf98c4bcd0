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
local LANE = { turns = KEYS[4], sender = KEYS[5], pair = KEYS[6], quota = KEYS[7], holds = KEYS[8] }

local job = Job.load(KEYS[1])
local run = job.runs[number]
local attempt = run and run.attempts[attempt_number]

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
    attempt.provider_message_id = attempt.provider_message_id or entry.message_id
    if ours and attempt.state == "claimed" then
        -- Its answer has come: nobody need wait for it any more.
        attempt.state, attempt.kind, attempt.lease_until, attempt.recorded_at = "settled", entry.kind, nil, text(now)
    end
    job:save_attempt(run, attempt)
    return "none"
end

local again = attempt ~= nil and attempt.token == token and attempt.state ~= "claimed"
local told = "[]"
if again then
    told = attempt.news or "[]"
else
    local news = LANE.sender and hear_signal(LANE, { unpack(ARGV, 14) }, number, now) or {}
    if #news > 0 then
        told = cjson.encode(news)
        if attempt ~= nil and attempt.token == token then
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
