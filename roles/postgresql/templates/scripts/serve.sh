#!/bin/sh
# pgBackRest's server, in every member and beside the repository, and what goes with it once a minute.
set -u
pgbackrest --config="$CONFIG" server &
server=$!
trap 'kill "$server"; wait "$server"; exit 0' TERM INT
minute=0
while kill -0 "$server" 2>/dev/null; do
    sh /etc/progressive/backup/minute.sh
    sleep 60 &
    wait "$!"
    minute=$((minute + 1))
    # A renewed certificate is taken up.
    [ $((minute % 60)) -ne 0 ] || kill -HUP "$server"
done
exit 1
