insert into outbox (aggregate_id, event_type, payload, created_at) values ('o-1', 'CREATED', '{"n": 1}', '2026-03-01 10:00:00+00');
insert into outbox (aggregate_id, event_type, payload, tenant, created_at) values ('o-1', 'PAID', null, 'north', '2026-03-01 10:00:01.5+00');
insert into outbox (aggregate_id, event_type, payload, tenant, created_at) values ('o-1', 'LOST', '{}', 'north', '2026-03-01 10:00:02+00');
