-- The ledger's release: a claim whose request never left is taken back, as if it had not been. KEYS: the job.

local now = clock(ARGV[1])
local number, attempt_number, token = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local job = Job.load(KEYS[1])
local run = job.runs[number]
if run == nil then
    return { text(now) }
end
local attempt = run.attempts[attempt_number]
if attempt ~= nil and attempt.state == "claimed" and attempt.token == token then
    run.attempts[attempt_number] = nil
    redis.call("HDEL", job.key, "a" .. number .. "." .. attempt_number)
end
if run.status == nil and next(run.attempts) == nil then
    redis.call("HDEL", job.key, "r" .. number, "b" .. number)
end
return { text(now) }
