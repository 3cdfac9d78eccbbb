-- A function that runs with its owner's rights looks into temporary tables last: who calls it could put its own in the way.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION distrust_rollups() SET search_path = %I, pg_temp', current_schema());
END
$$;
