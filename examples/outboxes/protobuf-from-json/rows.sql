insert into outbox (aggregate_id, event_type, payload) values ('7', 'OrderCreated', '{"tags": ["a", "b"], "qty": 2, "id": "7"}');
insert into outbox (aggregate_id, event_type, payload) values ('7', 'OrderPaid', '{"id": "7", "amountCents": "300"}');
insert into outbox (aggregate_id, event_type, payload) values ('7', 'OrderErased', null);
