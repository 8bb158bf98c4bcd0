-- The ledger's probe_soon: the next job of each held sender is a probe. KEYS: the senders' holds.

local now = clock(ARGV[1])
for _, key in ipairs(KEYS) do
    local flat = redis.call("HGETALL", key)
    for i = 1, #flat, 2 do
        local hold = read_hold(flat[i], flat[i + 1], now)
        if hold ~= nil and hold.probe_at > now then
            hold.probe_at = now
            write_hold(key, flat[i], hold)
        end
    end
end
return { text(now) }
