-- What the programs of this directory keep, in PostgreSQL: every event once, and the latest status of
-- each message by the rule of docs/subscribers.md.

CREATE TABLE sms_event (
    source text NOT NULL,
    id     text NOT NULL,
    data   jsonb NOT NULL,
    PRIMARY KEY (source, id)
);

CREATE TABLE sms_status (
    source      text NOT NULL,
    id_sms      text NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    status      text NOT NULL,
    outcome     text,
    final       boolean,
    rank        integer,
    changed_at  timestamptz,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (source, id_sms)
);

-- Keeps a state, all of it or nothing, and tells whether it is new. What must not happen twice belongs
-- into the transaction that calls this, and only if it is new.
CREATE FUNCTION keep_state(of_source text, of_id text, of_data jsonb) RETURNS boolean LANGUAGE sql AS $$
    WITH new AS (
        INSERT INTO sms_event VALUES (of_source, of_id, of_data)
        ON CONFLICT DO NOTHING
        RETURNING source, id, data
    ), latest AS (
        INSERT INTO sms_status AS held
            (source, id_sms, event_id, status, outcome, final, rank, changed_at, received_at)
        SELECT new.source, id_sms, new.id, status, outcome, final, rank, changed_at, received_at
        FROM new, jsonb_to_record(new.data) AS state (
            id_sms text, status text, outcome text, final boolean, rank integer,
            changed_at timestamptz, received_at timestamptz
        )
        ON CONFLICT (source, id_sms) DO UPDATE SET
            event_id = excluded.event_id, status = excluded.status, outcome = excluded.outcome,
            final = excluded.final, rank = excluded.rank, changed_at = excluded.changed_at,
            received_at = excluded.received_at
        WHERE (COALESCE(excluded.rank, -1), COALESCE(excluded.changed_at, '-infinity'), excluded.event_id)
            > (COALESCE(held.rank, -1), COALESCE(held.changed_at, '-infinity'), held.event_id)
    )
    SELECT EXISTS (SELECT FROM new);
$$;
