insert into openoutbox_events (event_id, event_type, partition_key, payload, headers) values ('00000000-0000-4000-8000-000000000171', 'user.created', 'u1', convert_to('{"id":"u1"}', 'utf8'), '{"content-type": "application/json"}');
update openoutbox_events set status = 'DELIVERING', locked_by = 'r1', locked_at = now();
update openoutbox_events set status = 'DELIVERED', delivered_at = now();
insert into openoutbox_events (event_id, event_type, partition_key, payload) values ('00000000-0000-4000-8000-000000000172', 'order.placed', null, '\x08011200');
insert into openoutbox_events (event_id, event_type, partition_key, payload) values ('00000000-0000-4000-8000-000000000173', 'user.created', 'u1', convert_to('{"id":"u1","again":true}', 'utf8'));
