#!/bin/sh
# Starts Patroni with what only the running pod knows. Passwords reach it by a file in memory, so that they are neither in the
# process list nor in the environment of a process somebody starts by hand. A password or certificate that changes reaches the
# running servers the same way: Patroni reads its file again and has PostgreSQL read its own, without a restart.
set -eu
umask 077
folder=/etc/progressive/run/patroni
secrets="/etc/progressive/auth /etc/progressive/tls"
secret() { sed 's/[\\"]/\\&/g' "/etc/progressive/auth/$1"; }
login() { if [ -f "/etc/progressive/auth/$1.login" ]; then secret "$1.login"; else echo "$2"; fi; }
seen() { for file in $(find -L $secrets -type f ! -path '*/..*' 2>/dev/null | sort); do cat "$file"; done | cksum; }
case "$POD_IP" in
    *:*) address="[$POD_IP]" ;;
    *) address=$POD_IP ;;
esac
configure() {
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
    replication: {username: "$(login replication replicator)", password: "$(secret replication)"$TRUST}
    rewind: {username: "$(login rewind rewind)", password: "$(secret rewind)"$TRUST}
CONFIG
}
mkdir -p "$folder"
cp /etc/progressive/config/patroni.yml /etc/progressive/bootstrap/bootstrap.yml "$folder"
last=$(seen)
configure
while sleep 5; do
    now=$(seen)
    if [ "$now" != "$last" ] && configure; then
        kill -HUP 1
        last=$now
    fi
done &
exec dumb-init --single-child -- patroni "$folder"
