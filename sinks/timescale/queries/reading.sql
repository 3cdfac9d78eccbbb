-- name: become_reader
-- Act as the role that may read and nothing else, where there is one and the login may.
SELECT set_config('role', rolname, false)
FROM pg_roles
WHERE rolname = 'funnelwatch_reader' AND pg_has_role(session_user, oid, 'MEMBER');

-- name: only_read
-- Refuse to write, and end statements that take too long.
SELECT
    set_config('default_transaction_read_only', 'on', false),
    set_config('statement_timeout', %(statement_ms)s, false);
