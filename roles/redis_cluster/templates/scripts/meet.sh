#!/bin/sh
# A node whose cluster does not work looks for the peers it has lost under their names: when all pods were replaced at once, nobody knows a single
# address, and DNS knows them all. Only who answers there with the ID that the peer had is met, so nobody joins who was no member.
# shellcheck disable=SC2034 # read by ask.sh
ASK_AS=operator ASK_ELSEWHERE=yes ASK_SECONDS=1
. /etc/progressive/config/ask.sh
case "$(ask cluster info)" in *cluster_state:fail*) ;; *) exit 0 ;; esac
nodes=$(ask cluster nodes | tr -d '\r')
port=$(echo "$nodes" | sed -n 's/^[^ ]* [^ ]*:\([0-9]*\)@.*myself.*/\1/p')
# A few, for they tell the others; not the same few each time, for one of them may be gone.
echo "$nodes" | grep -v myself | grep -E 'fail|noaddr|disconnected' | shuf -n 3 | while read -r id address _; do
    host=$(echo "$address," | cut -d , -f 2)
    [ -n "$host" ] || continue
    here=$(timeout 1 getent hosts "$host." | cut -d ' ' -f 1)
    [ -n "$here" ] && [ "$(ask -h "$here" -p "$port" cluster myid)" = "$id" ] && ask cluster meet "$here" "$port"
done
