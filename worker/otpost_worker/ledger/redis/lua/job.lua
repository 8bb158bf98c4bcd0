-- A job is one hash. Its fields: for run 1 "r1" (JSON) and "b1" (the body, while anything can need it), for attempt 2
-- of run 1 "a1.2" (JSON). Inside the JSON every value is text, as cjson would cut the digits of a time.
-- What is kept of a body after its run was accepted is a key of its own, which goes by itself at the deadline.

local Job = {}
Job.__index = Job

function Job.load(key)
    local flat = redis.call("HGETALL", key)
    local job = setmetatable({ key = key, bodies = {}, runs = {}, latest = nil }, Job)
    local attempts = {}
    for i = 1, #flat, 2 do
        local name, value = flat[i], flat[i + 1]
        local kind = string.sub(name, 1, 1)
        if kind == "r" then
            local number = tonumber(string.sub(name, 2))
            local run = cjson.decode(value)
            run.number, run.attempts, run.highest = number, {}, nil
            job.runs[number] = run
            if job.latest == nil or number > job.latest.number then
                job.latest = run
            end
        elseif kind == "b" then
            job.bodies[tonumber(string.sub(name, 2))] = value
        else
            attempts[name] = value
        end
    end
    for name, value in pairs(attempts) do
        local run, number = string.match(name, "^a(%d+)%.(%d+)$")
        job:know(job.runs[tonumber(run)], tonumber(number), cjson.decode(value))
    end
    return job
end

function Job:know(run, number, attempt)
    attempt.number = number
    run.attempts[number] = attempt
    if run.highest == nil or number > run.highest.number then
        run.highest = attempt
    end
end

-- The last run that stands, or nil: it was accepted and not given up after that, or delivered all the same.
function Job:standing_run()
    local last
    for number, run in pairs(self.runs) do
        local accepted = run.status == "accepted" and run.undelivered == nil
        local stands = run.status ~= nil and (accepted or run.delivered ~= nil)
        if stands and (last == nil or number > last.number) then
            last = run
        end
    end
    return last
end

function Job:save_run(run)
    redis.call("HSET", self.key, "r" .. run.number, cjson.encode({
        envelope = run.envelope, forget_at = run.forget_at, status = run.status, step = run.step,
        ended_at = run.ended_at, buried = run.buried, undelivered = run.undelivered,
        delivered = run.delivered,
    }))
end

function Job:save_attempt(run, attempt)
    redis.call("HSET", self.key, "a" .. run.number .. "." .. attempt.number, cjson.encode({
        state = attempt.state, token = attempt.token, lease_until = attempt.lease_until, start_at = attempt.start_at,
        probe = attempt.probe, claimed_at = attempt.claimed_at, recorded_at = attempt.recorded_at, kind = attempt.kind,
        due_at = attempt.due_at, step = attempt.step, provider_message_id = attempt.provider_message_id,
        news = attempt.news, reports = attempt.reports,
    }))
end

-- Keep the first copy of a run; the key lives as long as the last of its runs is to be remembered.
function Job:remember_run(number, envelope, body, forget_at, now)
    local run = self.runs[number]
    if run ~= nil then
        return run
    end
    run = { number = number, attempts = {}, envelope = envelope, forget_at = forget_at }
    self.runs[number] = run
    self.bodies[number] = body
    self:save_run(run)
    redis.call("HSET", self.key, "b" .. number, body)
    local last = tonumber(forget_at)
    for _, other in pairs(self.runs) do
        last = math.max(last, tonumber(other.forget_at))
    end
    -- A job that came so late that it could be forgotten at once would not even get the same end twice.
    keep(self.key, math.max(last - now, 60))
    return run
end

function Job:forget_body(run)
    if self.bodies[run.number] ~= nil then
        self.bodies[run.number] = nil
        redis.call("HDEL", self.key, "b" .. run.number)
    end
end

function Job:keep_body(run, body)
    self.bodies[run.number] = body
    redis.call("HSET", self.key, "b" .. run.number, body)
end

-- Keep the copy of a body that may have to be sent once more, where there is time left for that.
local function keep_until_deadline(key, run, body, now)
    local left = tonumber(run.forget_at) - REMEMBERED_AFTER_DEADLINE_S - now
    if left > 0 then
        redis.call("SET", key, body)
        keep(key, left)
    else
        redis.call("DEL", key)
    end
end

-- Let the provider's id tell whose message it is, for as long as the job is remembered.
function Job:name_message(key, run, attempt, now)
    local job_id = string.sub(self.key, string.len("{otpost}:job:") + 1)
    redis.call("SET", key, run.number .. "/" .. attempt.number .. "/" .. job_id)
    keep(key, math.max(tonumber(run.forget_at) - now, 60))
end

-- Digests all but the bodies: it changes with every write.
function Job.version(key)
    local flat = redis.call("HGETALL", key)
    local names, values = {}, {}
    for i = 1, #flat, 2 do
        if string.sub(flat[i], 1, 1) ~= "b" then
            table.insert(names, flat[i])
            values[flat[i]] = flat[i + 1]
        end
    end
    table.sort(names)
    local all = {}
    for _, name in ipairs(names) do
        table.insert(all, name .. "=" .. values[name])
    end
    return redis.sha1hex(table.concat(all, "\n"))
end

function Job:body(run)
    return self.bodies[run.number] or ""
end

-- How often each kind of failure came before an attempt, as JSON.
function Job:history(run, before)
    local counts = {}
    if run ~= nil then
        for number, attempt in pairs(run.attempts) do
            if number < before and attempt.kind ~= nil then
                counts[attempt.kind] = (counts[attempt.kind] or 0) + 1
            end
        end
    end
    return cjson.encode(counts)
end

-- The body goes with the end, unless its dead letter may still have to be written.
function Job:finish(run, status, step, has_letter, now)
    run.status, run.step, run.ended_at = status, step, text(now)
    self:save_run(run)
    if not has_letter then
        self:forget_body(run)
    end
end

-- What an outcome leaves of an attempt. entry: state, kind, step, status (of an end), has_letter, due_at, message_id.
function Job:write_entry(run, attempt, entry, now)
    attempt.state, attempt.kind, attempt.due_at = entry.state, entry.kind, entry.due_at
    attempt.provider_message_id = entry.message_id or attempt.provider_message_id
    attempt.lease_until, attempt.recorded_at = nil, text(now)
    attempt.step = entry.step
    if entry.status ~= nil then
        attempt.step = nil
    end
    self:save_attempt(run, attempt)
    if entry.status ~= nil then
        self:finish(run, entry.status, entry.step, entry.has_letter, now)
    end
end

-- The parts of a reply that gives an end again.
function Job:recorded_end(run)
    return run.envelope, self:body(run), run.step, run.buried or ""
end
