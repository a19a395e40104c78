# Read by alive.sh when another certificate is mounted than the server has: the same paths again make it read the files again, without a restart.
# Whatever goes wrong is tried again by the next probe; the old certificate serves until then.
ASK_AS=operator
. /etc/progressive/config/ask.sh
cp /etc/progressive/tls/tls.crt $run/tls.new
answer=$(ask config set tls-cert-file $tls/tls.crt tls-key-file $tls/tls.key tls-ca-cert-file $tls/ca.crt)
if [ "$answer" = OK ]; then mv $run/tls.new $run/tls.crt; else echo "the new certificate is not taken: $answer"; fi
