-- standing.hear in Lua: what an answer says about the sender.
-- heard: signal, begun_at, pause_s, rate, error, remedy. standing: cut, quota_until, quota_pauses, unanswered,
-- sender_hold, template_hold; it is changed in place. Returns the news, each a table of texts.

local function add(news, change, more)
    more = more or {}
    more.change = change
    table.insert(news, more)
end

local function begin_hold(heard, now)
    return {
        since = now, probe_at = now + probe_pause_s(0), probes = 0, error = heard.error, remedy = heard.remedy,
        by_report = heard.by_report and "1" or nil,
    }
end

-- A hold with another word on whether reports speak against it; another table, so that it is written.
local function retold(hold, by_report, cleared_at)
    return {
        since = hold.since, probe_at = hold.probe_at, probes = hold.probes, error = hold.error, remedy = hold.remedy,
        by_report = by_report, cleared_at = cleared_at,
    }
end

-- pacing.refuse_again in Lua.
local function refuse_again(heard, hold)
    return heard.by_report and retold(hold, "1", nil) or hold
end

local function halt(heard, standing, now, news)
    if standing.sender_hold == nil then
        standing.sender_hold = begin_hold(heard, now)
        add(news, "halted")
    else
        standing.sender_hold = refuse_again(heard, standing.sender_hold)
    end
end

-- What was under way when the hold began says nothing about it. A hold that is still to begin is from before the clock
-- was set back, and older than whatever is answered now.
local function began_before(hold, begun_at, now)
    return begun_at < hold.since and hold.since <= now
end

-- pacing.speak_against in Lua: what is left of the hold, if anything.
local function speak_against(heard, hold, now)
    if began_before(hold, heard.begun_at, now) then
        return hold
    end
    if heard.by_report or hold.by_report == nil then
        return nil
    end
    if hold.cleared_at == nil or hold.cleared_at > now then
        return retold(hold, "1", now)
    end
    if now - hold.cleared_at >= REPORTED_WITHIN_S then
        return nil
    end
    return hold
end

local function resume(heard, standing, now, news)
    local hold = standing.sender_hold
    if hold == nil then
        return
    end
    standing.sender_hold = speak_against(heard, hold, now)
    if standing.sender_hold == nil then
        add(news, "resumed")
    end
end

local function hold_template(heard, standing, now, news)
    if standing.template_hold == nil then
        standing.template_hold = begin_hold(heard, now)
        add(news, "halted", { template = "1" })
    else
        standing.template_hold = refuse_again(heard, standing.template_hold)
    end
end

local function release_template(heard, standing, now, news)
    local hold = standing.template_hold
    if hold == nil then
        return
    end
    standing.template_hold = speak_against(heard, hold, now)
    if standing.template_hold == nil then
        add(news, "resumed", { template = "1" })
    end
end

local function slow_down(heard, standing, now, news)
    local cut = standing.cut
    -- A request from before the last cut was sent at the old rate, and says nothing about the new one.
    if cut ~= nil and heard.begun_at <= cut.at and cut.at <= now then
        return
    end
    local halved = math.max(current_rate(heard.rate, cut, now) / 2, math.min(heard.rate, MIN_RATE))
    standing.cut = { rate = halved, at = now }
    add(news, "slowed", { rate = text(current_rate(heard.rate, standing.cut, now)) })
end

local function pause(heard, standing, now, news)
    local usual = math.min(QUOTA_PAUSE_S * 2 ^ math.min(standing.quota_pauses, 10), MAX_QUOTA_PAUSE_S)
    local given = heard.pause_s ~= nil and heard.pause_s ~= 0
    local ends = now + (given and heard.pause_s or usual)
    if now < standing.quota_until then
        -- One more answer to what was under way when the pause began: only a longer one is worth anything.
        if given then
            standing.quota_until = math.max(ends, standing.quota_until)
        end
        return
    end
    standing.quota_until, standing.quota_pauses = ends, standing.quota_pauses + 1
    add(news, "paused", { ["until"] = text(ends) })
end

local function hear(heard, standing, now)
    local news, signal = {}, heard.signal
    if signal == "nothing" or signal == "noted" then
        return news
    end
    if signal == "unanswered" then
        standing.unanswered = standing.unanswered + 1
        if standing.unanswered >= MAX_UNANSWERED then
            halt(heard, standing, now, news)
        end
        return news
    end
    if signal == "template_closed" then
        hold_template(heard, standing, now, news)
        return news
    end
    if signal == "template_opened" then
        release_template(heard, standing, now, news)
        return news
    end
    standing.unanswered = 0
    if signal == "sender_refused" then
        halt(heard, standing, now, news)
        return news
    end
    resume(heard, standing, now, news)
    if signal == "quota" then
        pause(heard, standing, now, news)
    elseif signal == "throttled" then
        slow_down(heard, standing, now, news)
    elseif signal == "template_refused" then
        hold_template(heard, standing, now, news)
    elseif signal == "accepted" then
        standing.quota_pauses = 0
        release_template(heard, standing, now, news)
    end
    return news
end
