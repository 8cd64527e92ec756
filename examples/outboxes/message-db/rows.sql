insert into message_store.messages (position, time, stream_name, type, data, id) values (0, '2026-03-01 10:00:00', 'account-7', 'Opened', '{"owner": "Ann"}', '00000000-0000-4000-8000-000000000121');
insert into message_store.messages (position, time, stream_name, type, data, id) values (1, '2026-03-01 10:00:01', 'account-7', 'Closed', null, '00000000-0000-4000-8000-000000000122');
