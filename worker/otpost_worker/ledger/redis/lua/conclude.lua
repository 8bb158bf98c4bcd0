-- The ledger's conclude: a run ends without a request. KEYS: the job.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local wish = {
    run = tonumber(ARGV[3]), attempt = tonumber(ARGV[4]), late = ARGV[5] == "1", hold_until = tonumber(ARGV[6]),
    resend = ARGV[7] == "1", ending = ARGV[8] == "1",
}
local forget_at, envelope, body, step, status = ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13]

local job = Job.load(KEYS[1])
if judge(job, wish, now) ~= "conclude" then
    return { text(now), "none" }
end
local run = job:remember_run(wish.run, envelope, body, forget_at, now)
local kept = job:body(run)
job:finish(run, status, step, ARGV[14] == "1", now)
return { text(now), "entry", run.envelope, kept }
