insert into cap.published values (11, 'v1', 'orders.made', '{"Headers":{"cap-msg-id":"11","cap-kafka-key":"o-1","cap-callback-name":null},"Value":{"n":1}}', 0, '2026-03-01 10:00:00', null, 'Scheduled');
update cap.published set "StatusName" = 'Succeeded';
insert into cap.published values (12, 'v1', 'orders.made', '{"Headers":{"cap-msg-id":"12"},"Value":"text"}', 0, '2026-03-01 10:00:01', null, 'Scheduled');
