-- The ledger's amend: the provider has reported more of a message, after its answer or before it.
-- KEYS: the job, what is kept of its body, the provider's message.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local version, number, attempt_number, reports = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local message_id = optional(ARGV[7])
local change = { state = optional(ARGV[8]), kind = optional(ARGV[9]), step = optional(ARGV[10]), due_at = optional(ARGV[11]) }
local ending = { step = optional(ARGV[12]), status = optional(ARGV[13]), has_letter = ARGV[14] == "1" }
local reopened, undelivered, delivered = ARGV[15] == "1", ARGV[16] == "1", ARGV[17] == "1"
local sets_body, body = ARGV[18] == "1", ARGV[19]
local KEPT, MESSAGE = KEYS[2], KEYS[3]

if Job.version(KEYS[1]) ~= version then
    return { text(now), "changed" }
end
local job = Job.load(KEYS[1])
local run = job.runs[number]
local attempt = run.attempts[attempt_number]

-- What is sent once more, or buried, is needed for longer than until the deadline.
if (reopened or ending.has_letter) and job:body(run) == "" then
    local kept = redis.call("GET", KEPT)
    if not kept then
        -- Its time is over since somebody looked.
        return { text(now), "changed" }
    end
    job:keep_body(run, kept)
    redis.call("DEL", KEPT)
end

attempt.reports = reports
if message_id ~= nil and attempt.provider_message_id == nil then
    attempt.provider_message_id = message_id
    job:name_message(MESSAGE, run, attempt, now)
end
if change.state ~= nil then
    attempt.state, attempt.kind, attempt.step, attempt.due_at = change.state, change.kind, change.step, change.due_at
    attempt.lease_until, attempt.recorded_at = nil, attempt.recorded_at or text(now)
end
job:save_attempt(run, attempt)

if reopened then
    run.status, run.step, run.ended_at = nil, nil, nil
elseif ending.status ~= nil then
    run.status, run.step, run.ended_at = ending.status, ending.step, run.ended_at or text(now)
end
run.undelivered, run.delivered = undelivered and "1" or nil, delivered and "1" or nil
job:save_run(run)
if sets_body then
    job:forget_body(run)
    if body ~= "" then
        keep_until_deadline(KEPT, run, body, now)
    else
        redis.call("DEL", KEPT)
    end
end
return { text(now), "done" }
