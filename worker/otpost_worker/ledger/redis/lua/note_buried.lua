-- The ledger's note_buried: a dead letter is confirmed, and nothing needs the body any more. KEYS: the job,
-- what is kept of its body.

local now = clock(ARGV[1])
local job = Job.load(KEYS[1])
local run = job.runs[tonumber(ARGV[2])]
-- Not before its end is recorded: until then another worker may have to take the job further.
if run ~= nil and run.status ~= nil then
    run.buried = "1"
    job:save_run(run)
    job:forget_body(run)
    redis.call("DEL", KEYS[2])
end
return { text(now) }
