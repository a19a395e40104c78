# Read by the other scripts: one bounded question to a Redis server, as the user ASK_AS. Passwords go by the environment, not by an argument.
# The server's own certificate is not looked at over loopback; a server elsewhere (ASK_ELSEWHERE) must have one from our authority.
run=/etc/progressive/run
user=${ASK_AS:-health}
if [ -e $run/users.acl ]; then login="--user $user"; else login= user=operator; fi # a server started before there were users has one password
if [ "$user" = operator ]; then key=password; else key=$user-password; fi
if [ -e $run/tls.crt ]; then
    tls=/etc/progressive/tls
    login="$login --tls --cert $tls/tls.crt --key $tls/tls.key"
    if [ -n "${ASK_ELSEWHERE:-}" ]; then login="$login --cacert $tls/ca.crt"; else login="$login --insecure"; fi
fi
# While a password changes, the server may not have heard of the one that is mounted here, or of it only.
ask() {
    answer=
    for file in "$key" "next-$key" "former-$key"; do
        [ -s "/etc/progressive/auth/$file" ] || continue
        REDISCLI_AUTH=$(cat "/etc/progressive/auth/$file")
        VALKEYCLI_AUTH=$REDISCLI_AUTH
        export REDISCLI_AUTH VALKEYCLI_AUTH
        # shellcheck disable=SC2086 # login is words
        answer=$(timeout "${ASK_SECONDS:-3}" "${ENGINE:-redis}-cli" --no-auth-warning $login "$@" 2>&1)
        case "$answer" in *WRONGPASS*) ;; *) break ;; esac
    done
    printf '%s\n' "$answer"
}
