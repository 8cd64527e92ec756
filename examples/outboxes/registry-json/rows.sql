insert into outbox values ('00000000-0000-4000-8000-000000000371', 'o-1', '{"id": 1}');
insert into outbox values ('00000000-0000-4000-8000-000000000372', 'o-1', '{"id": 2}');
