#!/bin/bash
# Run once by the image on an empty data folder: a role that may copy the cluster and read no table, and its way in.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set password="$(cat /run/secrets/backup_password)" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE backup LOGIN REPLICATION PASSWORD :'password';
SQL
echo "host replication backup all scram-sha-256" >> "$PGDATA/pg_hba.conf"
