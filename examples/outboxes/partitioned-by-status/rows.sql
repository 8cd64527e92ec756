insert into outbox (event_name, event_payload) values ('thread.made', '{"id": 1}');
update outbox set relayed = true;
insert into outbox (event_name, event_payload) values ('thread.shut', '{"id": 1}'), ('vote.cast', '{"id": 2}');
update outbox set relayed = true;
