insert into events values ('account', 'ACCT-1', 1, 'Opened', '1.0', '{"Opened": {"id": "ACCT-1"}}', '{"time":"2026-03-01T10:00:00Z"}', '2026-03-01 10:00:00+00');
insert into events values ('account', 'ACCT-1', 2, 'Credited', '1.0', '{"Credited":{"amount":  10}}', '{}', '2026-03-01 10:00:01+00');
insert into events values ('account', 'ACCT-2', 1, 'Opened', '1.0', '{"Opened": {"id": "ACCT-2"}}', '{}', '2026-03-01 10:00:02+00');
