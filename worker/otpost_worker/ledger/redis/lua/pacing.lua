-- pacing.pace in Lua: finds the start of a request, or what keeps it from having one.
-- lane: rate, latest_start, deadline. track: sender_paid_until, cut, pair_paid_until, turn, quota_until, sender_hold,
-- template_hold.

local function book(paid_until, now, interval_s, burst)
    local paid = math.max(paid_until, now) + interval_s
    return math.max(now, paid - burst * interval_s), paid
end

-- pacing.put_off in Lua; latest_start is nil where the refused job is not tried again. Returns paid_until, turn or nil.
local function put_off(paid_until, ends_at, begun_at, latest_start)
    local burst_s = (PAIR_BURST - 1) * PAIR_INTERVAL_S
    local before = paid_until
    -- Where nobody has booked behind it, what the refused request has paid for is its retry's: it was not taken.
    if paid_until - burst_s - PAIR_INTERVAL_S <= begun_at + PAIR_MARGIN_S then
        before = paid_until - PAIR_INTERVAL_S
    end
    local turn = ends_at
    if before > ends_at + burst_s then
        turn = before - burst_s + PAIR_MARGIN_S
    end
    if latest_start == nil or turn > latest_start then
        return math.max(paid_until, ends_at + burst_s), nil
    end
    return math.max(paid_until, math.max(before, ends_at + burst_s) + PAIR_INTERVAL_S), turn
end

local function current_rate(full, cut, now)
    -- A cut that is still to come is from before the clock was set back.
    if cut == nil or now < cut.at then
        return full
    end
    local steps = math.floor((now - cut.at) / GROW_EVERY_S)
    return math.min(full, cut.rate + steps * GROW_STEP * full)
end

local function find_turn(track, now)
    if track.turn ~= nil and now <= track.turn + TURN_TOLERANCE_S then
        return math.max(track.turn, now), track.pair_paid_until
    end
    local start, paid = book(track.pair_paid_until, now, PAIR_INTERVAL_S, PAIR_BURST)
    if start > now then
        start = start + PAIR_MARGIN_S
    end
    return start, paid
end

local function probed(hold, now)
    if hold ~= nil then
        hold.probes = hold.probes + 1
        hold.probe_at = now + probe_pause_s(hold.probes)
    end
end

-- A probe that is further away than any was booked by another clock.
local function is_held(hold, now)
    return now < hold.probe_at and hold.probe_at <= now + probe_pause_s(hold.probes)
end

local function is_being_probed(hold, now)
    return hold.probes > 0 and now < hold.probe_at - probe_pause_s(hold.probes) + PROBE_S
end

local function come_back(lane, back_at, now)
    local last_chance = lane.latest_start - LAST_CHANCE_S
    if last_chance < back_at and last_chance >= now + PROBE_S then
        return last_chance
    end
    return math.min(back_at, lane.deadline)
end

-- Returns "go", start, sender_paid_until, pair_paid_until (the holds of the track are those after this probe);
-- "turn", start, pair_paid_until; "held", until; "full", until; or "no_room".
local function pace(lane, track, now)
    local held, wait_s = false, HELD_S
    for _, hold in pairs({ sender = track.sender_hold, template = track.template_hold }) do
        held = held or is_held(hold, now)
        if is_being_probed(hold, now) then
            wait_s = PROBE_S
        end
    end
    if held then
        return "held", come_back(lane, now + wait_s, now)
    end
    if now < track.quota_until then
        return "held", come_back(lane, math.min(now + HELD_S, track.quota_until), now)
    end
    local pair_start, pair_paid_until = find_turn(track, now)
    if pair_start > lane.latest_start then
        return "no_room"
    end
    if pair_start - now > HORIZON_S then
        return "turn", pair_start, pair_paid_until
    end
    local rate = current_rate(lane.rate, track.cut, now)
    local interval_s, burst = 1 / rate, math.max(1, rate * BURST_S)
    local booked = track.sender_paid_until
    if booked > now + HORIZON_S + burst * interval_s + BOOKED_AHEAD_S then
        -- Booked before the clock was set back: that is paid for by now, as far as anybody can tell.
        booked = now + burst * interval_s
    end
    local start, sender_paid_until = book(booked, now, interval_s, burst)
    if start - now > HORIZON_S then
        return "full", start - HORIZON_S / 2
    end
    probed(track.sender_hold, now)
    probed(track.template_hold, now)
    return "go", math.max(start, pair_start), sender_paid_until, pair_paid_until
end

local function read_cut(rate, at)
    if rate and at then
        return { rate = tonumber(rate), at = tonumber(at) }
    end
    return nil
end
