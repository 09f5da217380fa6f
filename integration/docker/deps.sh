#!/usr/bin/env bash
# deps.sh [docker]: installs what the tests in this folder need and the machine lacks, or of that only
# Docker, where that is possible: Debian packages, as root. Says what to install where it is not. Starts
# nothing: see with-docker.sh.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
command -v docker >/dev/null && { docker version >/dev/null 2>&1 || command -v dockerd >/dev/null; } || missing+=(docker.io)
if [ "${1:-}" != docker ]; then # packed into images where no registry can be reached
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v haproxy >/dev/null || missing+=(haproxy)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "Needed for containers: ${missing[*]}. Install them, for example by: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi

# Only the programs are wanted: apt must not start a Redis, a load balancer or a daemon.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
case " ${missing[*]} " in *" docker.io "*)
  # Newer Debians pack the client on its own.
  if apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); fi ;;
esac
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
