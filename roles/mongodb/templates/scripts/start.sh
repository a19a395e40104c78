#!/bin/sh
# Starts mongod. It takes the members' key only from a file that nobody else can read, and a mounted Secret is readable by the group.
# While the key is changed there are two (module secret): the first is the one it shows, and it lets in whoever shows any of them.
set -eu
umask 077
for key in keyfile next-keyfile former-keyfile; do
  if [ -e "/etc/progressive/auth/$key" ]; then echo "- $(cat "/etc/progressive/auth/$key")"; fi
done >/run/progressive/keyfile
exec mongod --config /etc/progressive/config/mongod.conf
