#!/bin/sh
# preStop: a master hands over to the replica that has most of its data and waits until it is a replica itself, but not for ever.
# Without a replica in sync there is nobody to hand over to; the server then just saves and stops.
# shellcheck disable=SC2034 # read by ask.sh
ASK_AS=operator ASK_ELSEWHERE=yes
. /etc/progressive/config/ask.sh
role() { ask role | head -n 1; }
deadline=$(($(date +%s) + STOP_TIMEOUT))
[ "$(role)" = master ] || exit 0
[ -n "$(ask cluster nodes | grep myself | cut -d ' ' -f 9-)" ] || exit 0
while [ "$(date +%s)" -lt "$deadline" ]; do
    replica=$(ask info replication | tr -d '\r' |
        sed -n 's/^slave[0-9]*:ip=\([^,]*\),port=\([0-9]*\),state=online,offset=\([0-9]*\),.*/\3 \1 \2/p' | sort -rn | head -n 1)
    [ -n "$replica" ] || exit 0
    # shellcheck disable=SC2086 # three words: offset, address, port
    set -- $replica
    ask -h "$2" -p "$3" cluster failover >/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(role)" = slave ] && exit 0
        [ "$(date +%s)" -lt "$deadline" ] || break
        sleep 0.5
    done
done
exit 0
