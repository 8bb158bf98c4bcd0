-- The ledger's lapse: a claim that ended without an outcome becomes unknown. KEYS: the job.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local number, attempt_number, token = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local entry = {
    state = ARGV[6], kind = optional(ARGV[7]), step = ARGV[8], status = optional(ARGV[9]), has_letter = ARGV[10] == "1",
    due_at = optional(ARGV[11]), message_id = optional(ARGV[12]),
}

local job = Job.load(KEYS[1])
local run = job.runs[number]
local attempt = run and run.attempts[attempt_number]

if attempt == nil or attempt.state ~= "claimed" or attempt.token ~= token then
    return { text(now), "none" }
end
if tonumber(attempt.lease_until) > now or run.status ~= nil then
    return { text(now), "none" }
end
local body = job:body(run)
-- Whoever held the claim has lost it: its own outcome comes too late from here on.
attempt.token = ARGV[13]
job:write_entry(run, attempt, entry, now)
return { text(now), "entry", run.envelope, body }
