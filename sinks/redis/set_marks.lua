-- Set marks of partitions; 0 and nothing where the epoch is another one, else 1.
-- "settled": everything that was flushed up to the offset is in the cache; a mark that is further on stays.
-- "begun": a copy of everything up to the offset has begun; a mark that is behind owes what that copy will have.
-- "owing": its worker has something left to copy; the offset stays.
-- KEYS: the epoch, the number of copies, the marks. ARGV: the epoch, or nothing for any; what to do; for each mark its
-- partition, topic id and offset.
local epoch = redis.call('GET', KEYS[1])
if not epoch or (ARGV[1] ~= '' and ARGV[1] ~= epoch) then
    return 0
end
local copies = tonumber(redis.call('GET', KEYS[2]) or '0')
for at = 3, #ARGV, 3 do
    local partition, topic, to = unpack(ARGV, at, at + 2)
    local id, offset = string.match(redis.call('HGET', KEYS[3], partition) or '', '^(%S+) (%d+)')
    if ARGV[2] == 'owing' then
        if offset then
            redis.call('HSET', KEYS[3], partition, id .. ' ' .. offset .. ' ~' .. copies)
        end
    else
        local behind = not offset or id ~= topic or tonumber(offset) < tonumber(to)
        if behind and ARGV[2] == 'begun' then
            redis.call('HSET', KEYS[3], partition, topic .. ' ' .. to .. ' ~' .. (copies - 1))
        elseif ARGV[2] == 'settled' and (behind or tonumber(offset) == tonumber(to)) then
            redis.call('HSET', KEYS[3], partition, topic .. ' ' .. to)
        end
    end
end
return 1
