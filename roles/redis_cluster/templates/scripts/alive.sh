#!/bin/sh
# Liveness: the server answers at all. Loading, or waiting for its master, it is busy and not broken: a restart would only start that again.
. /etc/progressive/config/ask.sh
answer=$(ask ping)
case "$answer" in
    PONG | *LOADING* | *MASTERDOWN* | *BUSY* | *NOAUTH* | *WRONGPASS*)
        [ ! -e /etc/progressive/run/tls.crt ] || cmp -s /etc/progressive/tls/tls.crt /etc/progressive/run/tls.crt || . /etc/progressive/config/renew.sh
        exit 0
        ;;
esac
echo "no answer to PING: $answer"
exit 1
