insert into outbox values ('00000000-0000-4000-8000-000000000001', 'Order', '1001', 'OrderCreated', '{"id": 1001, "total": 39.98, "lines": [{"sku": "A1", "qty": 2}]}');
insert into outbox values ('00000000-0000-4000-8000-000000000002', 'Customer', '7', 'CustomerRenamed', '{"name": "Zoë \"Z\" Ågren", "was": null}');
insert into outbox values ('00000000-0000-4000-8000-000000000003', 'Order', '1001', 'OrderPaid', '{}');
insert into outbox values ('00000000-0000-4000-8000-000000000004', 'Order', '1001', 'OrderErased', null);
delete from outbox where aggregatetype = 'Customer';
