-- The ledger's claim: the table, the start, and the claim, in one.
-- KEYS: the job; with a lane also its turns, the sender, the pair, the quota, the sender's holds.

local now = clock(ARGV[1])
if is_stale(now, tonumber(ARGV[2])) then
    return { text(now), "stale" }
end
local wish = {
    run = tonumber(ARGV[3]), attempt = tonumber(ARGV[4]), late = ARGV[5] == "1", hold_until = tonumber(ARGV[6]),
    resend = ARGV[7] == "1", ending = ARGV[8] == "1",
}
local token, lease_s, forget_at, envelope, body = ARGV[9], tonumber(ARGV[10]), ARGV[11], ARGV[12], ARGV[13]
local template = ARGV[14]
local lane = { rate = tonumber(ARGV[15]), latest_start = tonumber(ARGV[16]), deadline = tonumber(ARGV[17]) }
local TURNS, SENDER, PAIR, QUOTA, HOLDS = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local job = Job.load(KEYS[1])

local function claimed(run, attempt)
    return {
        text(now), "claimed", job:history(run, wish.attempt), attempt.start_at, attempt.probe or "",
    }
end

local function grant(start_at, probe)
    local run = job:remember_run(wish.run, envelope, body, forget_at, now)
    local attempt = {
        state = "claimed", token = token, lease_until = text(now + lease_s), claimed_at = text(now),
        start_at = text(start_at), probe = probe,
    }
    job:know(run, wish.attempt, attempt)
    job:save_attempt(run, attempt)
    return claimed(run, attempt)
end

-- The asker's own open claim once more: the answer to the same request was lost on the way.
local function grant_again()
    local run = job.runs[wish.run]
    local attempt = run and run.attempts[wish.attempt]
    if attempt == nil or attempt.state ~= "claimed" or attempt.token ~= token then
        return nil
    end
    attempt.lease_until = text(now + lease_s)
    job:save_attempt(run, attempt)
    return claimed(run, attempt)
end

local function read_track()
    local sender = redis.call("HMGET", SENDER, "paid_until", "cut_rate", "cut_at")
    local turn = redis.call("HGET", TURNS, wish.run .. "." .. wish.attempt)
    local sender_hold, template_hold = read_holds(HOLDS, template, now)
    return {
        sender_paid_until = tonumber(sender[1] or "0"), cut = read_cut(sender[2], sender[3]),
        pair_paid_until = tonumber(redis.call("GET", PAIR) or "0"), turn = turn and tonumber(turn) or nil,
        quota_until = tonumber(redis.call("HGET", QUOTA, "until") or "0"), sender_hold = sender_hold,
        template_hold = template_hold,
    }
end

local function go(track, start_at, sender_paid_until, pair_paid_until)
    redis.call("HSET", SENDER, "paid_until", text(sender_paid_until))
    keep(SENDER, SENDER_KEPT_S)
    write_pair(PAIR, pair_paid_until, now)
    if track.sender_hold ~= nil then
        write_hold(HOLDS, WHOLE, track.sender_hold)
    end
    if track.template_hold ~= nil then
        write_hold(HOLDS, template, track.template_hold)
    end
    local probe = (track.sender_hold ~= nil or track.template_hold ~= nil) and "1" or nil
    return grant(start_at, probe)
end

local function claim()
    if TURNS == nil then
        return grant(now, nil)
    end
    local track = read_track()
    local what, at, paid, pair_paid = pace(lane, track, now)
    if what == "go" then
        return go(track, at, paid, pair_paid)
    end
    if what == "turn" then
        write_pair(PAIR, paid, now)
        write_turn(TURNS, wish.run, wish.attempt, at, now)
        return { text(now), "wait", text(at) }
    end
    if what == "held" then
        return { text(now), "wait", text(at) }
    end
    if what == "full" then
        return { text(now), "crowded", text(at) }
    end
    return { text(now), "no_room" }
end

local action, argument = judge(job, wish, now)
if action == "wait" or action == "lapsed" then
    local own = grant_again()
    if own ~= nil then
        return own
    end
end
if action == "claim" then
    return claim()
end
if action == "wait" then
    return { text(now), "wait", text(argument) }
end
if action == "end" then
    return { text(now), "end", job:recorded_end(argument) }
end
if action == "repeat" then
    local run = job.latest
    return { text(now), "repeat", run.envelope, job:body(run), argument.step, argument.due_at or "" }
end
if action == "lapsed" then
    local run = job.latest
    return {
        text(now), "lapsed", tostring(argument.number), argument.token, job:history(run, argument.number), run.envelope,
        job:body(run),
    }
end
if action == "conclude" then
    local unknown = argument and tostring(job.latest.highest.number) or ""
    return { text(now), "must_end", job:history(job.runs[wish.run], wish.attempt), unknown }
end
return { text(now), "acknowledge" }
