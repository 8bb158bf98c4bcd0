-- Every script gets the time from Redis, unless a test hands it in. Times are Unix seconds, and numbers are written
-- with all their digits: what is read again has to be what was written.

local function clock(given)
    if given ~= "" then
        return tonumber(given)
    end
    local time = redis.call("TIME")
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Whether the asker's clock was set since the offset was learnt that its times were translated with; or whether it has
-- given up waiting, and asked again: what it asks for now would be done behind its back.
local function is_stale(now, asked_at)
    return now < asked_at - CLOCK_SLACK_S or now > asked_at + PATIENCE_S
end

local function text(number)
    return string.format("%.17g", number)
end

-- "" stands for what is not there, in arguments and replies.
local function optional(argument)
    if argument == nil or argument == false or argument == "" then
        return nil
    end
    return argument
end

-- Let a key live for so many seconds, rounded up.
local function keep(key, seconds)
    redis.call("PEXPIRE", key, string.format("%.0f", math.ceil(seconds * 1000)))
end
