# Read by the other scripts: one bounded question to a Redis server. The password goes by the environment, not by an argument.
REDISCLI_AUTH=$(cat /etc/progressive/auth/password)
export REDISCLI_AUTH
ask() {
    timeout "${ASK_SECONDS:-3}" redis-cli --no-auth-warning "$@" 2>&1
}
