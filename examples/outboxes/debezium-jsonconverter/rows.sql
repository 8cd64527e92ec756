insert into outbox values ('00000000-0000-4000-8000-000000000041', 'order', 'k-1', 'OrderCreated', '{"id": 1, "note": "say \"hi\""}');
insert into outbox values ('00000000-0000-4000-8000-000000000042', 'order', 'k"2', 'OrderCreated', '[]');
insert into outbox values ('00000000-0000-4000-8000-000000000043', 'order', 'k-1', 'OrderErased', null);
