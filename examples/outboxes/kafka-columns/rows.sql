insert into outbox_kafka (topic, key, value, headers) values ('payments', 'p1', '\x0a0470310001', '{"x-value-type": "bank.PaymentMade", "x-source": "bank"}');
update outbox_kafka set processed = now();
insert into outbox_kafka (topic, key, value, headers) values ('payments', 'p2', '\x', null);
insert into outbox_kafka (topic, key, value, headers) values ('payouts', null, '\xff', '{}');
insert into outbox_kafka (topic, key, value, headers) values ('payments', 'p1', '\x0a0470310002', '{"x-value-type": "bank.PaymentMade"}');
