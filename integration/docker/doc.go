// Package docker holds Weft to what it promises beside real servers in containers: Redis, several
// nodes of Weft in its own image, and a load balancer before them.
//
// It is a module of its own, so that nobody who embeds Weft inherits Docker's client. The tests need a
// Docker daemon; `make test-docker` at the top of the repository installs and starts one where it may.
// What is missing fails the tests; nothing is skipped.
//
//	make test-docker                                       all of it
//	./with-docker.sh go test -run TestRedis ./...          some of it, with a daemon for as long
//	WEFT_BIN=/path/to/weft ./with-docker.sh go test ./...  another binary than the one built from ../../cmd/weft
//
// Where to look:
//
//   - deps.sh, with-docker.sh: the Debian packages, and a daemon for the time of a command
//   - main_test.go: the connection to the daemon, and tidying up after runs that were killed
//   - image_test.go: images out of the machine's own programs, for want of a registry
//   - container_test.go: what all containers can do: start, stop, kill, pause, each with a port that stays
//   - redis_test.go, weft_test.go, haproxy_test.go: the three kinds, each with the test that it works
//   - clients_test.go, clients/: the published npm client under Node, told when to go on
//   - restarts_test.go, rolling_test.go: nodes that restart behind the load balancer while people draw
//   - crowd_test.go, herd_test.go, drain_test.go: 200 people over restarts, 1000 clients that are refused,
//     a node of 20 000 sockets that ends; what is measured there has the machine to itself
//   - redisstore_test.go: store.Redis beside a real Redis
//   - cluster*_test.go: several nodes in this process, whose every frame is looked at
//   - shared_test.go: the tests of the folder above, with three nodes that share a Redis
//   - process_test.go: how nodes end, and what they say while Redis is away
//   - faults*_test.go, faults/: a cluster of processes, and all that may happen to it
//
// Every container has a network of its test's own and publishes its ports on 127.0.0.1 alone.
package docker
