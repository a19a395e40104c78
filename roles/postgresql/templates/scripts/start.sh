#!/bin/sh
# Starts Patroni with what only the running pod knows. Passwords reach it by a file in memory, so that they are neither in the
# process list nor in the environment of a process somebody starts by hand.
set -eu
umask 077
folder=/etc/progressive/run/patroni
secret() { sed 's/[\\"]/\\&/g' "/etc/progressive/auth/$1"; }
mkdir -p "$folder"
cp /etc/progressive/config/patroni.yml /etc/progressive/bootstrap/bootstrap.yml "$folder"
case "$POD_IP" in
    *:*) address="[$POD_IP]" ;;
    *) address=$POD_IP ;;
esac
cat >"$folder/pod.yml" <<CONFIG
name: "$POD_NAME"
kubernetes:
  pod_ip: "$POD_IP"
restapi:
  connect_address: "$address:$REST_PORT"
  authentication: {username: patroni, password: "$(secret restapi)"}
postgresql:
  connect_address: "$address:$PORT"
  authentication:
    superuser: {username: postgres, password: "$(secret superuser)"}
    replication: {username: replicator, password: "$(secret replication)"}
    rewind: {username: rewind, password: "$(secret rewind)"}
CONFIG
exec dumb-init --single-child -- patroni "$folder"
