insert into package_event (package_id, event_type, payload, created_at, event_id) values (7, 'Created', '{"ID": 7, "Title": "box"}', '2026-03-01 10:00:00.000001+00', '00000000-0000-4000-8000-000000000311');
insert into package_event (package_id, event_type, payload, created_at, event_id) values (7, 'Updated', '{"ID": 7, "Title": "crate"}', '2026-03-01 10:00:01+00', '00000000-0000-4000-8000-000000000312');
insert into package_event (package_id, event_type, payload, created_at, event_id) values (300, 'Removed', null, '2026-03-01 10:00:02+00', '00000000-0000-4000-8000-000000000313');
