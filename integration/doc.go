// Package integration holds Weft's built binary against the published canvas-store packages: the
// npm server, the npm client, and a real browser.
//
// It is a module of its own because its tests need more than Go: Node 20 or later, the npm packages
// pinned in node/package.json, and Chromium. `make test-deps` at the top of the repository installs
// them. A missing one fails the tests; nothing is skipped.
//
//	go test ./...                                  everything
//	go test -run TestDifferential -args -seed 42   one random sequence again, step by step
//	go test -run TestClient                        the npm client under Node
//	go test -run TestBrowser                       the playground in Chromium
//	WEFT_BIN=/path/to/weft go test ./...           another binary than the one built from ../cmd/weft
//
// Where to look:
//
//   - main_test.go, server_test.go: find the tools, build and run servers, mint tokens
//   - nodes_test.go: Weft as one server, or as three nodes that share the Redis in WEFT_TEST_REDIS;
//     docker/ runs the tests that know both
//   - wsclient_test.go: a WebSocket client that keeps every frame; rawconn_test.go: one that breaks rules
//   - jsvalue_test.go: JSON as JavaScript reads it
//   - generate_test.go, play_test.go, differential_test.go: random sequences on both servers
//   - better_*_test.go: what Weft does better on purpose; process_test.go: the command itself
//   - node/: the published server, the published client's tests and the browser's, all under Node
package integration
