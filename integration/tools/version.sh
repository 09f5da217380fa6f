#!/usr/bin/env bash
# Prints what this checkout is, for the Makefile: the version, the whole commit, and the commit's time in
# seconds since 1970. The version is the tag's; after a tag, `git describe`'s; before the first, one that
# sorts below every tag. It is valid as a SemVer version, an image's tag and a label's value in Kubernetes.
set -euo pipefail
cd "$(dirname "$0")"

if ! describe=$(git describe --tags --match 'v[0-9]*' --always --dirty --abbrev=12 2>/dev/null); then
  echo "v0.0.0-unknown unknown 0" # an archive without its history
  exit
fi
case $describe in
v*) ;;
*) describe=v0.0.0-$(TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd)-$describe ;;
esac
echo "$describe $(git log -1 --format='%H %ct')"
