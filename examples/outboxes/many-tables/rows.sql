insert into tenant_a.outbox (aggregate_id, payload) values (1, '{"a": 1}');
begin;
insert into tenant_b.outbox (aggregate_id, payload) values (1, '{"b": 1}');
insert into billing.events_out values ('i-1', '{"due":  3}');
insert into tenant_b.other (aggregate_id, payload) values (9, '{}');
insert into tenant_a.outbox (aggregate_id, payload) values (1, '{"a": 2}');
commit;
