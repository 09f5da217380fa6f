module github.com/weftsync/weft/integration/kube

go 1.26.0

replace (
	github.com/weftsync/weft => ../../
	github.com/weftsync/weft/integration/docker => ../docker
)

require (
	github.com/weftsync/weft v0.0.0-00010101000000-000000000000
	github.com/weftsync/weft/integration/docker v0.0.0-00010101000000-000000000000
)

require (
	github.com/MicahParks/jwkset v0.11.4 // indirect
	github.com/MicahParks/keyfunc/v3 v3.9.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/coder/websocket v1.8.15 // indirect
	github.com/go-json-experiment/json v1.27.2 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)
