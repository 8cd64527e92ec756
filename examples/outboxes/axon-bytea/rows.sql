insert into domain_event_entry values (1, 'e-1', convert_to('{"traceId":"t1"}', 'utf8'), convert_to('{"roomId":"r1","size":4}', 'utf8'), null, 'hotel.RoomAdded', '2026-03-01T10:00:00.123Z', 'r1', 0, 'Room');
insert into domain_event_entry values (2, 'e-2', null, convert_to('{"roomId":"r1"}', 'utf8'), '2.0', 'hotel.RoomBooked', '2026-03-01T11:00:00+01:00', 'r1', 1, 'Room');
insert into domain_event_entry values (3, 'e-3', null, '\xdeadbeef00', null, 'hotel.GuestArrived', '2026-03-01T10:00:02Z', 'g7', 0, 'Guest');
