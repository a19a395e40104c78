#!/bin/sh
# Starts mongod. It takes the members' key only from a file that nobody else can read, and a mounted Secret is readable by the group.
set -eu
umask 077
cat /etc/progressive/auth/keyfile >/run/progressive/keyfile
exec mongod --config /etc/progressive/config/mongod.conf
