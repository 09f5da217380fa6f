# An image with weft in it and nothing else: no shell, no libraries, no root user.
#
# `make image` builds it, as weft:VERSION and weft:latest. The rooms are in /data (./data in the working
# directory), which should be a volume that user 65532 may write to. Nothing else is written:
#
#   docker run --read-only -p 8080:8080 -v weft-data:/data -e WEFT_AUTH_JWT_SECRET weft
#
# Every setting has an environment variable; `docker run weft serve --help`
# lists them. SIGTERM, with which containers are stopped, saves all rooms; give
# it the time of WEFT_DRAIN_TIMEOUT (45s) and WEFT_SHUTDOWN_TIMEOUT (30s)
# before killing: docker stop -t 80.
FROM scratch

# A weft that is linked statically, for the image's platform.
ARG BINARY=bin/weft
COPY ${BINARY} /weft
# An empty folder, which a new volume takes over with its owner.
COPY --chown=65532:65532 bin/data /data
# The authorities to trust where a JWKS or webhook URL is https, or Redis is rediss. Mount your own in its place.
COPY bin/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt

USER 65532:65532
VOLUME /data

# Probes and scrapers come from outside the container, so the admin address
# (/livez, /readyz, /metrics) is not loopback here. Do not publish its port.
ENV WEFT_ADMIN_LISTEN=:9090
# Clients; admin; and between nodes the gossip and the connections by which they notice a death.
EXPOSE 8080 9090 7946/tcp 7946/udp 7947/tcp

# Later instructions differ from build to build, so that what comes before them can be kept.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="weft" \
      org.opencontainers.image.description="A server for multiplayer infinite canvases" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="https://github.com/weftsync/weft" \
      org.opencontainers.image.licenses="Apache-2.0"

ENTRYPOINT ["/weft"]
CMD ["serve"]
