create type "OutboxStatus" as enum ('PENDING', 'PUBLISHED', 'FAILED');
create table "OutboxEvent" (
    "id" text not null primary key,
    "tenantId" text not null default 'default',
    "aggregateId" text not null,
    "aggregateType" text not null,
    "eventType" text not null,
    "payload" jsonb not null,
    "status" "OutboxStatus" not null default 'PENDING',
    "attempts" integer not null default 0,
    "lastError" text,
    "createdAt" timestamp(3) not null default current_timestamp,
    "processedAt" timestamp(3)
);
