#!/bin/sh
# Starts redis-server with what only the running pod knows. Users and passwords reach the server by files in memory, so that they are
# neither in the process list nor in the environment of a process somebody starts by hand.
set -eu
umask 077
auth=/etc/progressive/auth
run=/etc/progressive/run
tls=/etc/progressive/tls

# Every user may have up to three passwords: the one it has, the next one, and the former one while it is changed.
{
    case "${DEFAULT_USER:-off}" in
        keep) echo "user default on #$(sha256sum <$auth/password | cut -d ' ' -f 1) ~* &* +@all" ;;
        *) echo "user default off" ;;
    esac
    while read -r name rules; do
        if [ "$name" = operator ]; then key=password; else key=$name-password; fi
        hashes=
        for file in "$key" "next-$key" "former-$key"; do
            [ ! -s "$auth/$file" ] || hashes="$hashes #$(sha256sum <"$auth/$file" | cut -d ' ' -f 1)"
        done
        echo "user $name on$hashes $rules"
    done </etc/progressive/config/users
} >$run/users.acl

login=$auth/replication-password
[ ! -s "$auth/next-replication-password" ] || login=$auth/next-replication-password
cat >$run/instance.conf <<CONFIG
cluster-announce-ip $POD_IP
cluster-announce-hostname $POD_NAME.$HEADLESS_DOMAIN
aclfile $run/users.acl
masteruser replication
masterauth "$(sed 's/[\\"]/\\&/g' "$login")"
CONFIG

rm -f $run/tls.crt
if [ "${TLS:-off}" = on ]; then
    cp $tls/tls.crt $run/tls.crt
    cat >>$run/instance.conf <<CONFIG
port 0
tls-port $PORT
tls-replication yes
tls-cluster yes
tls-auth-clients $TLS_CLIENTS
tls-ca-cert-file $tls/ca.crt
tls-cert-file $tls/tls.crt
tls-key-file $tls/tls.key
# Certificates are for names, so clients are sent to names; among themselves the nodes go by addresses.
cluster-preferred-endpoint-type hostname
CONFIG
fi
exec "${ENGINE:-redis}-server" /etc/progressive/config/redis.conf
