#!/bin/sh
# Readiness: the member serves, as primary or as secondary. hello needs no login. The set as a whole is not asked: members that are not ready
# yet must find each other to become so.
exec mongosh --quiet --norc --port "$PORT" --eval 'const said = db.hello(); quit(said.isWritablePrimary || said.secondary ? 0 : 1)'
