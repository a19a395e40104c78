#!/bin/sh
# Starts redis-server with what only the running pod knows. The password reaches the server by a file in memory, so that it
# is neither in the process list nor in the environment of a process somebody starts by hand.
set -eu
umask 077
password=$(sed 's/[\\"]/\\&/g' /etc/progressive/auth/password)
cat >/etc/progressive/run/instance.conf <<CONFIG
cluster-announce-ip $POD_IP
cluster-announce-hostname $POD_NAME.$HEADLESS_DOMAIN
requirepass "$password"
masterauth "$password"
CONFIG
exec "${ENGINE:-redis}-server" /etc/progressive/config/redis.conf
