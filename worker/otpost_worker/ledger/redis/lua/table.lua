-- attempts.judge in Lua: what is done with a delivery, given what the ledger knows of its job.
-- wish: run, attempt, late, hold_until, resend, ending. Returns the action and, where it has one, its argument.

local function judge_start(job, wish, now, after_unknown)
    local standing = job:standing_run()
    if standing ~= nil then
        -- That a run before it was delivered may be reported while a replay waits for its retry.
        return "end", standing
    end
    if wish.ending or wish.late or (after_unknown and not wish.resend) then
        return "conclude", after_unknown
    end
    if now < wish.hold_until then
        return "wait", wish.hold_until
    end
    return "claim"
end

local function judge_under_way(job, wish, now)
    local highest = job.latest.highest
    if wish.attempt < highest.number then
        return "acknowledge"
    end
    if highest.state == "claimed" then
        local lease_until = tonumber(highest.lease_until)
        if now < lease_until then
            return "wait", lease_until
        end
        return "lapsed", highest
    end
    if highest.state == "settled" then
        -- Its run has ended, which was looked up before.
        return "acknowledge"
    end
    if wish.attempt == highest.number then
        return "repeat", highest
    end
    local due_at = tonumber(highest.due_at or "0")
    if now < due_at then
        return "wait", due_at
    end
    return judge_start(job, wish, now, highest.state == "unknown")
end

local function judge(job, wish, now)
    local run = job.latest
    if run == nil then
        return judge_start(job, wish, now, false)
    end
    if wish.run > run.number then
        -- A replay is like a new job, unless one of the runs before it has reached the recipient.
        return judge_start(job, wish, now, false)
    end
    if run.status ~= nil then
        return "end", run
    end
    if wish.run < run.number then
        return "acknowledge"
    end
    if run.highest == nil then
        return judge_start(job, wish, now, false)
    end
    return judge_under_way(job, wish, now)
end
