-- An os, browser or app version that nobody said is empty in the counts; on a screen it needs a name.

CREATE FUNCTION or_none(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value = '' THEN '(none)' ELSE value END;
COMMENT ON FUNCTION or_none IS 'The value of a dimension as it is shown.';
