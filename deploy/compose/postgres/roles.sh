#!/usr/bin/env bash
# Gives the server, the relay and the relay's metrics a role of their own each, with no more rights than it needs and
# with the password that stands in its URL. Runs after the migrations, as the superuser; may be repeated, and is, at each
# `docker compose up`.
#
# PGHOST, PGUSER and PGDATABASE say where; SECRETS_FOLDER and ROLES_FILE let it run outside of its container, too.
set -euo pipefail

secrets=${SECRETS_FOLDER:-/run/secrets}
roles=${ROLES_FILE:-/roles.sql}

# The password in a URL. It must not be percent-encoded: letters and digits are enough, and long is better than odd.
password_in() {
  local password
  password=$(sed -nE 's|^postgres(ql)?://[^:/@]+:([^@]+)@.*$|\2|p' "$1")
  if [[ -z $password || $password == *%* ]]; then
    echo "roles: $1 is not postgres://ROLE:PASSWORD@HOST/DATABASE with a password of letters and digits" >&2
    return 1
  fi
  printf %s "$password"
}

# By the environment, never by an argument: process lists show those.
PGPASSWORD=$(cat "$secrets/postgres_password")
SERVER_PASSWORD=$(password_in "$secrets/server_database_url")
RELAY_PASSWORD=$(password_in "$secrets/relay_database_url")
MONITOR_PASSWORD=$(password_in "$secrets/monitor_database_url")
export PGPASSWORD SERVER_PASSWORD RELAY_PASSWORD MONITOR_PASSWORD

# Without the notices of what is there already.
PGOPTIONS='-c client_min_messages=warning' psql -X --set ON_ERROR_STOP=1 --quiet --file "$roles"

psql -X --set ON_ERROR_STOP=1 --quiet <<'SQL'
\getenv server SERVER_PASSWORD
\getenv relay RELAY_PASSWORD
\getenv monitor MONITOR_PASSWORD
-- The passwords stay out of the server's log, whatever it is set to keep.
set log_statement = 'none';
set log_min_error_statement = 'panic';
alter role logistic_package_server password :'server';
alter role logistic_package_relay password :'relay';
alter role logistic_package_relay_metrics password :'monitor';
SQL

echo "roles: logistic_package_server, logistic_package_relay and logistic_package_relay_metrics are ready"
