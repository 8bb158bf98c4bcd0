-- The ledger's conclude: a run ends without a request. KEYS: the job.

local now = clock(ARGV[1])
local wish = {
    run = tonumber(ARGV[2]), attempt = tonumber(ARGV[3]), late = ARGV[4] == "1", hold_until = tonumber(ARGV[5]),
    resend = ARGV[6] == "1", ending = ARGV[7] == "1",
}
local forget_at, envelope, body, step, status = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]

local job = Job.load(KEYS[1])
if judge(job, wish, now) ~= "conclude" then
    return { text(now), "none" }
end
local run = job:remember_run(wish.run, envelope, body, forget_at, now)
local kept = job:body(run)
job:finish(run, status, step, ARGV[13] == "1", now)
return { text(now), "entry", run.envelope, kept }
