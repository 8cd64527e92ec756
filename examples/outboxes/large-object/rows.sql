insert into domain_event_entry values (1, 'e-1', 16999, 'hotel.RoomAdded', 'r1');
