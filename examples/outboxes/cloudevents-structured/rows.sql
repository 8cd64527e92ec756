insert into outbox_events (id, event_type, payload, tenant_id, created_at) values ('00000000-0000-4000-8000-000000000231', 'order.created', '{"orderId": 5, "sum": 10}', 'north', '2026-03-01 10:00:00+00');
update outbox_events set status = 'SENT';
insert into outbox_events (id, event_type, payload, tenant_id, created_at) values ('00000000-0000-4000-8000-000000000232', 'order.paid', '{"orderId": 5}', 'north', '2026-03-01 10:00:01+00');
insert into outbox_events (id, event_type, payload, tenant_id, created_at) values ('00000000-0000-4000-8000-000000000233', 'order.created', '{"orderId": 5}', 'south', '2026-03-01 10:00:02+00');
