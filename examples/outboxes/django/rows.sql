insert into django_outbox_pattern_published (id, destination, body, headers) values ('00000000-0000-4000-8000-000000000201', 'orders', '{"order_id": 5, "state": "new"}', '{"dop-correlation-id": "c-1"}');
update django_outbox_pattern_published set status = 1;
insert into django_outbox_pattern_published (id, destination, body) values ('00000000-0000-4000-8000-000000000202', 'orders', '{"order_id": 5, "state": "paid"}');
