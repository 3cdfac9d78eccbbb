-- Whoever changes keep, and however: what the jobs of the database may have dropped by then stays noted.

CREATE FUNCTION note_dropped() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF new.keep IS DISTINCT FROM old.keep AND new.dropped_before IS NOT DISTINCT FROM old.dropped_before THEN
        -- With a day to spare: a job may run just now, and a day has 25 hours where clocks change.
        new.dropped_before = greatest(old.dropped_before, clock_timestamp() - old.keep + INTERVAL '1 day');
    END IF;
    RETURN new;
END
$$;
COMMENT ON FUNCTION note_dropped IS 'Moves dropped_before on to what was dropped for the old value of keep.';

CREATE TRIGGER note_dropped BEFORE UPDATE ON retention FOR EACH ROW EXECUTE FUNCTION note_dropped();
