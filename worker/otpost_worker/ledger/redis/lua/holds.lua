-- What is held of a sender: one hash, its fields "" for the sender as a whole and "template/language" for one template
-- in one language; the values are JSON whose values are text.

local WHOLE = ""

local function is_over(field, hold, now)
    -- A template's name may be anybody's typing error; nobody has asked for this one for long.
    return field ~= WHOLE and tonumber(hold.probe_at) <= now - HOLD_KEPT_S
end

local function read_hold(field, value, now)
    if not value then
        return nil
    end
    local hold = cjson.decode(value)
    if is_over(field, hold, now) then
        return nil
    end
    hold.since, hold.probe_at, hold.probes = tonumber(hold.since), tonumber(hold.probe_at), tonumber(hold.probes)
    hold.cleared_at = tonumber(hold.cleared_at)
    return hold
end

local function read_holds(key, template, now)
    local found = redis.call("HMGET", key, WHOLE, template)
    return read_hold(WHOLE, found[1], now), read_hold(template, found[2], now)
end

local function write_hold(key, field, hold)
    redis.call("HSET", key, field, cjson.encode({
        since = text(hold.since), probe_at = text(hold.probe_at), probes = text(hold.probes), error = hold.error,
        remedy = hold.remedy, by_report = hold.by_report, cleared_at = hold.cleared_at and text(hold.cleared_at),
    }))
end

local function probe_pause_s(probes)
    return math.min(5 * 2 ^ math.min(probes, 10), 300)
end
