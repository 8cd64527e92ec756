begin;
insert into event_publication values ('00000000-0000-4000-8000-000000000061', 'shop.Mailer.on(shop.OrderCompleted)', 'shop.OrderCompleted', '{"orderId":5}', '2026-03-01 10:00:00+00');
insert into event_publication values ('00000000-0000-4000-8000-000000000062', 'org.springframework.modulith.events.kafka.externalizer', 'shop.OrderCompleted', '{"orderId":5}', '2026-03-01 10:00:00+00');
commit;
update event_publication set completion_date = now(), status = 'COMPLETED';
insert into event_publication values ('00000000-0000-4000-8000-000000000063', 'org.springframework.modulith.events.kafka.externalizer', 'shop.StockReserved', '{"sku":"A1","orderId":5}', '2026-03-01 10:00:01+00');
