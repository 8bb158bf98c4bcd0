-- The ledger's refuse: a body that is no job ends its run, unless its id belongs to another job. KEYS: the job.

local now = clock(ARGV[1])
local number = tonumber(ARGV[2])
local forget_at, envelope, body, step, status = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local fingerprint = optional(ARGV[9])

local job = Job.load(KEYS[1])
local latest = job.latest
if latest == nil or (number > latest.number and job:standing_run() == nil) then
    local run = job:remember_run(number, envelope, body, forget_at, now)
    local kept = job:body(run)
    job:finish(run, status, step, ARGV[8] == "1", now)
    return { text(now), "entry", run.envelope, kept }
end
if latest.status == nil or number > latest.number then
    return { text(now), "none" }
end
-- Its own end is due to this very body, and to no other.
local own = job:body(latest) == body or (fingerprint ~= nil and cjson.decode(latest.step).fingerprint == fingerprint)
if not own then
    return { text(now), "none" }
end
return { text(now), "end", job:recorded_end(latest) }
