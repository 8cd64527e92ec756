insert into mt_events values (1, '00000000-0000-4000-8000-000000000111', 'b0000000-0000-4000-8000-000000000001', 1, '{"Name": "Ann"}', null, 'member_joined', '2026-03-01 10:00:00+00', default, 'Shop.MemberJoined, Shop', '{"user": "u1", "depth": 1}', false);
begin;
insert into mt_events values (3, '00000000-0000-4000-8000-000000000113', 'b0000000-0000-4000-8000-000000000001', 2, '{"Name": "Anna"}', null, 'member_renamed', '2026-03-01 10:00:01.5+00', 'north', 'Shop.MemberRenamed, Shop', null, false);
insert into mt_events values (4, '00000000-0000-4000-8000-000000000114', 'b0000000-0000-4000-8000-000000000001', 3, '{}', null, 'member_left', '2026-03-01 10:00:01.5+00', 'north', 'Shop.MemberLeft, Shop', '{}', false);
commit;
update mt_events set is_archived = true where version = 1;
