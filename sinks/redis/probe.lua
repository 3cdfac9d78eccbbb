-- Do once what the other scripts do, to see whether this user of this server may, and has room for it.
-- KEYS: a hash that goes after a second.
redis.call('HSET', KEYS[1], 'field', '1')
redis.call('HGET', KEYS[1], 'field')
redis.call('EXPIRE', KEYS[1], 1)
return 1
