// Command weft is a server for multiplayer canvases: it serves browsers that
// run the canvas-store client, mints tokens for trying it out, and puts any
// server of the protocol under load. `weft --help` lists what it does.
//
// The way in is [run], which is the whole program without the process around
// it: arguments and environment go in, an exit status comes out.
//
//   - cli.go: the commands, and the one line that says what is wrong
//   - internal/settings: what can be set, and where its value comes from
//   - config.go: check, print and describe the settings
//   - serve.go, shutdown.go: the server from its start to its end
//   - rooms.go: where rooms live: store.go on one node, node.go on many
//   - auth.go, log.go: its other parts, as the settings choose them
//   - public.go, admin.go: what the two listeners answer
//   - memory.go: how much garbage may pile up
//   - rotate.go: secrets that change while it runs
//   - token.go, canary.go, load.go, version.go: the other commands
package main

import (
	"os"

	// Where the system has no certificates, as in the container image, these
	// are what an https JWKS or webhook URL is checked against.
	_ "golang.org/x/crypto/x509roots/fallback"
)

func main() {
	tuneGC()
	ctx, release := untilSignal(os.Exit)
	status := run(ctx, os.Args, os.Environ(), os.Stdout, os.Stderr)
	release()
	os.Exit(status)
}
