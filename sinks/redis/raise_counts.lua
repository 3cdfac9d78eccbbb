-- Raise counts to the totals given, never lower them, so that replays and races cannot hurt; unless the copy is not
-- whole (no epoch), or counts were repaired since the writer knew all, when nothing is written and 0 returned.
-- KEYS: the epoch, the number of repairs, then a hash for each window. ARGV: the number of repairs that the writer
-- knows of; for each window its time to live in seconds, the number of its pairs, and the pairs of field and total.
if redis.call('EXISTS', KEYS[1]) == 0 or (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then
    return 0
end
local at = 2
for i = 3, #KEYS do
    local key, seconds, pairs_ = KEYS[i], tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    at = at + 2
    for _ = 1, pairs_ do
        local field, total = ARGV[at], ARGV[at + 1]
        at = at + 2
        local now = redis.call('HGET', key, field)
        if not now or tonumber(now) < tonumber(total) then
            redis.call('HSET', key, field, total)
        end
    end
    redis.call('EXPIRE', key, seconds)
end
return 1
