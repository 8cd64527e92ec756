create schema cap;
create table cap.published (
    "Id" bigint primary key,
    "Version" varchar(20) not null,
    "Name" varchar(200) not null,
    "Content" text,
    "Retries" int not null,
    "Added" timestamp not null,
    "ExpiresAt" timestamp,
    "StatusName" varchar(50) not null
);
