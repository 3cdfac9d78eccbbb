-- Raise counts to the totals given, never lower them, so that replays and races cannot hurt. Nothing is written where
-- Redis has lost its data (returns 0) or counts were repaired since the writer knew all (-1).
-- Then move the marks of partitions on. A mark that is behind what the writer can explain, or is missing, means that
-- the cache lacks something: 2 is returned, otherwise 1.
-- KEYS: the epoch, the number of repairs, the number of copies, the marks, then a hash for each window.
-- ARGV: the number of repairs that the writer knows of; the epoch that it writes to, or nothing for any; the number of
-- marks; for each mark its partition, topic id, the least offset it may have now, the offset to move it to, and 1 where
-- the writer has something left to copy; for each window its time to live in seconds, the number of its series, their
-- totals packed one after the other, and the field of each.
local epoch = redis.call('GET', KEYS[1])
if not epoch or (ARGV[2] ~= '' and ARGV[2] ~= epoch) then
    return 0
end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then
    return -1
end
local owing = ' ~' .. (redis.call('GET', KEYS[3]) or '0')
local answer = 1
-- Four bytes a number, as in keys.py.
local counts = '>i4i4i4i4i4i4i4i4i4'
local at = 4
for _ = 1, tonumber(ARGV[3]) do
    local partition, topic, least, to, owes = unpack(ARGV, at, at + 4)
    at = at + 5
    local id, offset, flag = string.match(redis.call('HGET', KEYS[4], partition) or '', '^(%S+) (%d+)(.*)$')
    if not offset or id ~= topic or tonumber(offset) < tonumber(least) then
        answer = 2
        redis.call('HSET', KEYS[4], partition, topic .. ' ' .. to .. owing)
    elseif tonumber(offset) < tonumber(to) then
        redis.call('HSET', KEYS[4], partition, topic .. ' ' .. to .. (owes == '1' and owing or flag))
    end
end
for i = 5, #KEYS do
    local key, seconds, series, totals = KEYS[i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
    at = at + 3
    for first = 0, series - 1, 1000 do
        local some = math.min(1000, series - first)
        local present = redis.call('HMGET', key, unpack(ARGV, at, at + some - 1))
        local raised = {}
        for number = 1, some do
            local new = string.sub(totals, (first + number - 1) * 36 + 1, (first + number) * 36)
            local old = present[number]
            if old and old ~= new then
                local a1, a2, a3, a4, a5, a6, a7, a8, a9 = struct.unpack(counts, old)
                local b1, b2, b3, b4, b5, b6, b7, b8, b9 = struct.unpack(counts, new)
                new = struct.pack(counts,
                    math.max(a1, b1), math.max(a2, b2), math.max(a3, b3), math.max(a4, b4), math.max(a5, b5),
                    math.max(a6, b6), math.max(a7, b7), math.max(a8, b8), math.max(a9, b9))
            end
            if old ~= new then
                raised[#raised + 1] = ARGV[at + number - 1]
                raised[#raised + 1] = new
            end
        end
        if #raised > 0 then
            redis.call('HSET', key, unpack(raised))
        end
        at = at + some
    end
    redis.call('EXPIRE', key, seconds)
end
return answer
