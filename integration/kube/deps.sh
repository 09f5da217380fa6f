#!/usr/bin/env bash
# Installs what a cluster on this machine needs and is not built from Go modules: Debian packages, as
# root. Starts nothing: see withkube.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v containerd >/dev/null && command -v ctr >/dev/null && command -v runc >/dev/null || missing+=(containerd)
[ -e /usr/lib/cni/ptp ] || [ -e /opt/cni/bin/ptp ] || missing+=(containernetworking-plugins)
command -v iptables >/dev/null || missing+=(iptables)
command -v ip >/dev/null || missing+=(iproute2)
# Packed into an image.
command -v redis-server >/dev/null || missing+=(redis-server)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "A cluster on this machine needs: ${missing[*]}. Install them, for example by: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi

# Only the programs are wanted: apt must not start any of them.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
