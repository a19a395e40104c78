#!/bin/sh
# Once a minute. The primary writes a row that a drill looks for, once a backup has made the table. The archive is made for the first primary there is;
# pgBackRest itself refuses one that holds another cluster's.
set -u
if [ -n "${REPOSITORY:-}" ]; then
    until [ -e /tmp/made ]; do
        if pgbackrest --config="$REPOSITORY" --stanza="$STANZA" --log-level-console=off --log-level-stderr=error stanza-create; then
            touch /tmp/made
        else
            sleep 5
        fi
    done
fi
[ -S "${PGHOST:-/nowhere}/.s.PGSQL.$PORT" ] || exit 0
PGOPTIONS='-c statement_timeout=20s' timeout 30 psql --no-psqlrc --quiet --dbname=postgres <<'SQL' 2>&1 | grep -v '^$'
do $$
begin
  if not pg_is_in_recovery() and to_regclass('progressive_platform.tick') is not null then
    insert into progressive_platform.tick default values;
  end if;
end
$$
SQL
