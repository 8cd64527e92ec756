-- A database as the Go service leaves it: its two migrations, run by goose, and rows as it writes them.
create table goose_db_version (
  id serial primary key, version_id bigint not null, is_applied boolean not null, tstamp timestamp default now()
);
insert into goose_db_version (version_id, is_applied) values (0, true), (1, true), (2, true);

create table package (
  package_id bigserial primary key,
  title      varchar(32) not null,
  material   varchar(32) not null,
  max_volume real not null,
  reusable   bool default false not null,
  created_at timestamp,
  updated_at timestamp
);
create type event_type_enum as enum ('Created', 'Updated', 'Removed');
create type event_status_enum as enum ('Unlocked', 'Locked');
create table package_event (
  package_event_id bigserial primary key,
  package_id       bigint,
  event_type       event_type_enum not null,
  event_status     event_status_enum default 'Unlocked',
  payload          jsonb,
  created_at       timestamp default now()
);
create index package_id_index on package (package_id);
create index package_event_id_index on package_event (package_event_id);
create index event_status_index on package_event (event_status);

insert into package (title, material, max_volume, reusable, created_at, updated_at) values
  ('ящик', 'wood', 700.5, true, '2023-03-26 01:30:00.123456', null),
  ('tube', 'paper', 0.1, false, '2023-10-29 02:30:00', '2023-10-29 02:30:01'),
  ('gone', 'wood', 1, false, '2023-01-01 00:00:00', null);
delete from package where title = 'gone';

-- Event 1 was published, and so deleted; 2 was on its way when the retranslator stopped.
insert into package_event (package_id, event_type, event_status, payload, created_at) values
  (1, 'Created', 'Unlocked', '{"ID": 1}', '2023-03-26 01:30:00.123456'),
  (2, 'Created', 'Locked', '{"ID": 2, "Title": "tube", "Updated": null}', '2023-10-29 02:30:00'),
  (2, 'Updated', 'Unlocked', '{"ID": 2, "Updated": {"Time": "2023-10-29T02:30:01Z", "Valid": true}}', '2023-10-29 02:30:01'),
  (3, 'Removed', 'Unlocked', null, '2023-10-29 02:30:02');
delete from package_event where package_event_id = 1;
