insert into outbox values ('00000000-0000-4000-8000-000000000351', 'o-1', '{"note": "hi", "id": 41}');
insert into outbox values ('00000000-0000-4000-8000-000000000352', 'o-1', '{"id": -1, "note": null}');
insert into outbox values ('00000000-0000-4000-8000-000000000353', 'o-1', null);
insert into outbox values ('00000000-0000-4000-8000-000000000354', 'o-1', '{"id": "text", "note": null}');
