insert into "OutboxEvent" ("id", "aggregateId", "aggregateType", "eventType", "payload", "createdAt") values ('clx1', 'lead-1', 'Lead', 'lead.created', '{"name": "Ann"}', '2026-03-01 10:00:00.123');
update "OutboxEvent" set "status" = 'PUBLISHED', "processedAt" = now();
insert into "OutboxEvent" ("id", "aggregateId", "aggregateType", "eventType", "payload", "createdAt") values ('clx2', 'deal-9', 'Deal', 'deal.won', '{"value": 1e3}', '2026-03-01 10:00:01');
insert into "OutboxEvent" ("id", "aggregateId", "aggregateType", "eventType", "payload", "createdAt") values ('clx3', 'lead-1', 'Lead', 'lead.merged', 'null', '2026-03-01 10:00:02');
