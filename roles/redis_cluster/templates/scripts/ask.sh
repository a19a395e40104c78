# Read by the other scripts: one bounded question to a Redis server, as the user ASK_AS. Passwords go by the environment, not by an argument.
# The server's own certificate is not looked at over loopback; a server elsewhere (ASK_ELSEWHERE) must have one from our authority.
run=/etc/progressive/run
login=
user=${ASK_AS:-health}
ways=$user
[ -e $run/users.acl ] || ways="$user -" # a server started before there were users has one password, until it is given users
if [ -e $run/tls.crt ]; then
    tls=/etc/progressive/tls
    login="--tls --cert $tls/tls.crt --key $tls/tls.key"
    if [ -n "${ASK_ELSEWHERE:-}" ]; then login="$login --cacert $tls/ca.crt"; else login="$login --insecure"; fi
fi
# While a password changes, the server may not have heard of the one that is mounted here, or of it only.
ask() {
    answer=
    for way in $ways; do
        case $way in -) as= key=password ;; operator) as="--user $way" key=password ;; *) as="--user $way" key=$way-password ;; esac
        for file in "$key" "next-$key" "former-$key"; do
            [ -s "/etc/progressive/auth/$file" ] || continue
            REDISCLI_AUTH=$(cat "/etc/progressive/auth/$file")
            VALKEYCLI_AUTH=$REDISCLI_AUTH
            export REDISCLI_AUTH VALKEYCLI_AUTH
            # shellcheck disable=SC2086 # these are words
            answer=$(timeout "${ASK_SECONDS:-3}" "${ENGINE:-redis}-cli" --no-auth-warning $as $login "$@" 2>&1)
            case "$answer" in *WRONGPASS*) ;; *) break 2 ;; esac
        done
    done
    printf '%s\n' "$answer"
}
