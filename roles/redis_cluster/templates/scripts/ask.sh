# Read by the other scripts: one bounded question to a Redis server. The password goes by the environment, not by an argument.
REDISCLI_AUTH=$(cat /etc/progressive/auth/password)
VALKEYCLI_AUTH=$REDISCLI_AUTH
export REDISCLI_AUTH VALKEYCLI_AUTH
ask() {
    timeout "${ASK_SECONDS:-3}" "${ENGINE:-redis}-cli" --no-auth-warning "$@" 2>&1
}
