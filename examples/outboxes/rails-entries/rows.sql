insert into outbox_entries (resource_class, resource_id, event_name, context, changeset, created_at, updated_at) values ('User', '5', 'user_created', 'active_record', '{"id":[null,5],"email":[null,"a@b.c"]}', '2026-03-01 10:00:00.000001', '2026-03-01 10:00:00');
update outbox_entries set processed_at = now(), attempts = attempts + 1;
insert into outbox_entries (resource_class, resource_id, event_name, context, changeset, created_at, updated_at) values ('User', '5', 'user_updated', 'active_record', '{"email":["a@b.c","d@e.f"]}', '2026-03-01 10:00:01', '2026-03-01 10:00:01');
insert into outbox_entries (resource_class, resource_id, event_name, context, created_at, updated_at) values ('Account', '8', 'account_destroyed', 'active_record', '2026-03-01 10:00:02', '2026-03-01 10:00:02');
