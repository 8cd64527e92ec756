create table outboxevent (
    id uuid not null primary key,
    aggregatetype varchar(255) not null,
    aggregateid varchar(255) not null,
    type varchar(255) not null,
    timestamp timestamp not null,
    payload varchar(8000),
    tracingspancontext varchar(256)
);
