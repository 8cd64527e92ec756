create table django_outbox_pattern_published (
    id uuid primary key,
    version varchar(100) not null default 'v1',
    destination varchar(255) not null,
    body jsonb not null,
    added timestamptz not null default now(),
    expires_at timestamptz not null default now() + interval '1 day',
    retry int not null default 0,
    status int not null default -1,
    headers jsonb not null default '{}'
);
