insert into "RebusOutbox" ("CorrelationId", "MessageId", "DestinationAddress", "Headers", "Body") values ('w1', 'm-1', 'invoices', '{"rbs2-corr-id":"c-9","rbs2-content-type":"application/json;charset=utf-8"}', convert_to('{"n":1}', 'utf8'));
update "RebusOutbox" set "Sent" = true;
insert into "RebusOutbox" ("MessageId", "DestinationAddress", "Headers", "Body") values ('m-2', 'invoices', '{"rbs2-corr-seq":"1"}', '\x7b7d');
insert into "RebusOutbox" ("MessageId", "DestinationAddress", "Headers", "Body") values ('m-3', 'invoices', null, null);
