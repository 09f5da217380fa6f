# An image with weft in it and nothing else: no shell, no libraries, no root.
#
# It takes a binary that is already built, statically and for the image's
# platform, and an empty folder, which becomes the data folder:
#
#   make playground      (optional: the page that --dev serves)
#   CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/weft ./cmd/weft
#   mkdir -p bin/data
#   docker build -t weft .
#
# The rooms are in /data (./data of the image's folder), which should be a volume that user 65532 may write:
#
#   docker run -p 8080:8080 -v weft-data:/data -e WEFT_AUTH_JWT_SECRET weft
#
# Every setting is an environment variable; `docker run weft serve --help`
# lists them. SIGTERM, with which containers are stopped, saves all rooms; give
# it the time of WEFT_SHUTDOWN_TIMEOUT (30s) before killing, with WEFT_REDIS_URL
# that of WEFT_DRAIN_TIMEOUT (45s) more: docker stop -t 80.
FROM scratch

COPY bin/weft /weft
COPY --chown=65532:65532 bin/data /data

USER 65532:65532
VOLUME /data

# Probes and scrapers come from outside the container, so the admin address
# (/livez, /readyz, /metrics) is not loopback here. Do not publish its port.
ENV WEFT_ADMIN_LISTEN=:9090
EXPOSE 8080 9090 7946/tcp 7946/udp

ENTRYPOINT ["/weft"]
CMD ["serve"]
