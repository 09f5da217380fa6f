#!/usr/bin/env bash
# with-docker.sh COMMAND…: runs a command that needs a Docker daemon, and exits as it does.
#
# A daemon that answers is used as it is. Otherwise, as root, one is started for the time of the
# command, with all that it keeps in a temporary folder: it sees no images and containers of the
# machine, and leaves none; what it set in the firewall stays, as it always does. One at a time, since
# two would fight over those rules.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "with-docker.sh: $*" >&2
  exit 1
}
answers() { timeout 10 docker version >/dev/null 2>&1; }

[ $# -gt 0 ] || fail "which command?"
if answers; then exec "$@"; fi
[ -z "${DOCKER_HOST:-}" ] || fail "no Docker daemon answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST"
if [ "$(id -u)" -ne 0 ] || ! command -v docker >/dev/null || ! command -v dockerd >/dev/null; then
  fail "no Docker daemon answers, and none can be started here. Start one that you may use, or install one: sudo apt-get install docker.io"
fi

exec 9>/run/weft-docker.lock
flock -w 1800 9 || fail "somebody else's tests have kept /run/weft-docker.lock for half an hour"

dir=$(mktemp -d /tmp/weft-docker.XXXXXX)
export DOCKER_HOST=unix://$dir/docker.sock # from here on, docker is the one in there and no other
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH
bridge=/sys/class/net/docker0
[ ! -e "$bridge" ] || bridge='' # it was there before
daemon='' child=''
finish() {
  trap '' TERM INT HUP
  if [ -n "$daemon" ] && answers; then # what is still there would keep its part of the machine's network
    docker ps -aq | timeout 30 xargs -r docker rm -f >/dev/null || true
    timeout 30 docker network prune -f >/dev/null || true
  fi
  if [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null; then
    for _ in {1..150}; do
      kill -0 "$daemon" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$daemon" 2>/dev/null || true
  fi
  [ -z "$bridge" ] || ip link delete docker0 2>/dev/null || true
  rm -rf --one-file-system "$dir"
}
trap finish EXIT
for signal in TERM INT HUP; do
  # The whole group of the command: Ctrl-C, too, reaches this script only.
  trap '[ -z "$child" ] || kill -'$signal' -- "-$child" 2>/dev/null || true; stopped=1' $signal
done
stopped=''

# Its own groups for what runs behind (set -m), so that a Ctrl-C does not end the daemon before the
# tests have tidied up; it ends with this script even if that is killed (pdeathsig).
set -m
setpriv --pdeathsig TERM dockerd \
  --host "$DOCKER_HOST" --data-root "$dir/data" --exec-root "$dir/run" --pidfile "$dir/pid" \
  --shutdown-timeout 5 >"$dir/log" 2>&1 9>&- &
daemon=$!
for _ in {1..300}; do
  if [ -n "$stopped" ]; then exit 1; fi
  if answers; then break; fi
  kill -0 "$daemon" 2>/dev/null || break
  sleep 0.1
done
if ! answers; then
  tail -n 20 "$dir/log" >&2
  fail "dockerd does not start here, see above. The tests need a machine on which it does, or a daemon in DOCKER_HOST"
fi

"$@" 9>&- &
child=$!
code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ends the wait before the command
  wait "$child" || code=$?
done
exit "$code"
