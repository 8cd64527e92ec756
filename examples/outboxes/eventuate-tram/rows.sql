insert into eventuate.message values ('0000018f-1', 'orders.OrderService', '{"ID":"0000018f-1","PARTITION_ID":"77","DESTINATION":"orders.OrderService","event-type":"orders.OrderCreated"}', '{"orderId":77,"note":"say \"hi\""}', 0, null, 1772000000000);
update eventuate.message set published = 1;
insert into eventuate.message values ('0000018f-2', 'credit.Commands', '{"ID":"0000018f-2","command_type":"credit.Reserve"}', '{"amount":5}', 0, null, 1772000000001);
insert into eventuate.message values ('0000018f-3', 'orders.OrderService', '{"ID":"0000018f-3","PARTITION_ID":"77"}', '{}', 0, null, 1772000000002);
