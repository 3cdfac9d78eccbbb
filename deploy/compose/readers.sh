#!/bin/sh
# Run once, when the database is made: logins that may only read, for Grafana and the board (docs/running.md).
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 \
    --set grafana="$GRAFANA_DB_PASSWORD" --set board="$BOARD_DB_PASSWORD" <<'SQL'
CREATE ROLE funnelwatch_reader NOLOGIN;
CREATE ROLE grafana LOGIN PASSWORD :'grafana' IN ROLE funnelwatch_reader;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
CREATE ROLE board LOGIN PASSWORD :'board' IN ROLE funnelwatch_reader;
SQL
