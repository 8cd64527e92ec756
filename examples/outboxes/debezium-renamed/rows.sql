insert into outbox_events values ('00000000-0000-4000-8000-000000000011', 'basket', 'a0000000-0000-4000-8000-00000000000a', 'basket.filled', '{"n": 1}', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', '2026-03-01 10:00:00.25+00');
insert into outbox_events values ('00000000-0000-4000-8000-000000000012', 'basket', 'A0000000-0000-4000-8000-00000000000B', 'basket.filled', '{"n": 2}', null, '2026-03-01 12:00:00+02');
update outbox_events set published_at = now();
insert into outbox_events values ('00000000-0000-4000-8000-000000000013', 'basket', 'a0000000-0000-4000-8000-00000000000a', 'basket.bought', '{"n": 3}', null, '2026-03-01 10:00:01+00');
