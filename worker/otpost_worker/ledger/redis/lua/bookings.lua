-- What is booked with a recipient, written: until when all of it is paid for, and the turns of single attempts.

local function write_pair(key, paid_until, now)
    -- A debt that is paid is forgotten.
    local ms = math.max(1, math.ceil((paid_until - now) * 1000))
    redis.call("SET", key, text(paid_until), "PX", string.format("%.0f", ms))
end

local function write_turn(key, run, attempt, start_at, now)
    redis.call("HSET", key, run .. "." .. attempt, text(start_at))
    keep(key, start_at - now + TURN_KEPT_S)
end
