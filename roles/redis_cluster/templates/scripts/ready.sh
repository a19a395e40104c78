#!/bin/sh
# Readiness: the data is loaded and, on a replica, the link to its master is up. The state of the whole cluster is not asked: a node
# that waits for others would never get ready, and nobody could form the cluster.
. /etc/progressive/config/ask.sh
information=$(ask info | tr -d '\r')
case "$information" in
    *loading:0*) ;;
    *) echo "not loaded yet: $(echo "$information" | head -n 1)" && exit 1 ;;
esac
(timeout 5 sh /etc/progressive/config/meet.sh >/dev/null 2>&1 &) # whoever waits for it would be late for his own answer
case "$information" in
    *role:slave*master_link_status:down*) echo "replica without a link to its master" && exit 1 ;;
esac
