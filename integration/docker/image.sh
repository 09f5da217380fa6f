#!/usr/bin/env bash
# Builds the container image of a binary that is there: see `make image`, which sets the variables.
# Also writes it to a file, for a machine or a cluster that no registry connects with this one.
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p bin/data
docker build --platform "linux/$ARCH" -t "weft:$VERSION" -t weft:latest \
  --build-arg BINARY="bin/linux-$ARCH/weft" --build-arg VERSION="$VERSION" --build-arg REVISION="$COMMIT" \
  --build-arg CREATED="$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" .
docker save -o bin/weft-image.tar "weft:$VERSION" weft:latest
echo "weft:$VERSION and weft:latest; bin/weft-image.tar has them for 'docker load', 'ctr images import' or 'kind load image-archive'"
