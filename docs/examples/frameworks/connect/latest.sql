-- The latest status of each message, of the table that a sink has written: by the rule of
-- docs/subscribers.md. Times are text there, and of a form that compares as text.
CREATE VIEW sms_latest AS
SELECT DISTINCT ON (source, data_id_sms) *
FROM sms_state
WHERE dataschema = 'urn:sms-status-bridge:schema:status:1'
ORDER BY source, data_id_sms,
         data_rank DESC NULLS LAST, data_changed_at COLLATE "C" DESC NULLS LAST, id COLLATE "C" DESC;
