package kube

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/integration/docker/faults"
)

// Who edits: people with the published client, whose document is checked block by block, and beside them
// the clients of the fault tests, which record all they see for the fault tests' checker.
const (
	people      = 200
	peopleRooms = 40

	recorders         = 3 // of a room
	recorderRooms     = 10
	recorderPatches   = 15 // a second, of all
	recorderRoomNames = "recorded-"
)

// secret signs every token; the published clients' library has the same.
const secret = "integration-secret-of-enough-bytes-for-hs256"

// crowd is the process of the published clients. It is told by a word a line when to go on, and says it
// back when it is done: see ../docker/clients/crowd.mjs.
type crowd struct {
	stdin io.WriteCloser
	lines chan string // of its standard output; closed at its end
	end   func() error
}

// noticed is what people have noticed since the crowd was last told to forget; times in milliseconds.
type noticed struct {
	Clients    int
	Reconnects int
	PerClient  float64
	Longest    float64
	P99        float64
	Acks       int // since the beginning
	Resyncs    int // since the beginning: a room knew less than one of its clients
}

func gather(t *testing.T, url string) *crowd {
	t.Helper()
	if _, err := os.Stat("../node/node_modules/@woven-ecs/canvas-store"); err != nil {
		t.Fatal("the npm packages in integration/node are not installed: run `make test-deps`")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", "../docker/clients/crowd.mjs")
	cmd.Env = append(os.Environ(), "WEFT_BIN=none", "WEFT_URL="+url, fmt.Sprint("CROWD_CLIENTS=", people), fmt.Sprint("CROWD_ROOMS=", peopleRooms))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	c := &crowd{lines: make(chan string, 16)}
	if err == nil {
		c.stdin, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			select {
			case c.lines <- lines.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	c.end = sync.OnceValue(func() error {
		<-read // before Wait, which closes the pipe
		return errors.Join(ctx.Err(), cmd.Wait())
	})
	t.Cleanup(func() {
		cancel()
		_ = c.end() // whoever waited for it has had the error
	})
	c.say(t, "mark")
	c.say(t, "reset")
	return c
}

// say tells a word, waits until it comes back, and returns the line before, if there was one.
func (c *crowd) say(t testing.TB, word string) (before string) {
	t.Helper()
	if _, err := fmt.Fprintln(c.stdin, word); err != nil {
		t.Fatalf("the published clients have ended: %v", errors.Join(err, c.end()))
	}
	for line := range c.lines {
		if line == word {
			return before
		}
		before = line
	}
	t.Fatalf("the published clients ended before they could say %q: %v", word, c.end())
	return ""
}

// goesOn waits until all are online and have another edit acknowledged, and returns what they noticed
// since the last call.
func (c *crowd) goesOn(t testing.TB) (n noticed) {
	t.Helper()
	c.say(t, "mark")
	n = c.stats(t)
	c.say(t, "reset")
	return n
}

func (c *crowd) stats(t testing.TB) (n noticed) {
	t.Helper()
	line := c.say(t, "stats")
	if err := json.Unmarshal([]byte(line), &n); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return n
}

// leaves has the crowd check that everybody agrees, with those who come anew as well, and that every edit
// is there.
func (c *crowd) leaves(t testing.TB) (n noticed) {
	t.Helper()
	if line := c.say(t, "end"); json.Unmarshal([]byte(line), &n) != nil {
		t.Fatalf("%q is no summary", line)
	}
	c.stdin.Close()
	for range c.lines { // until it has ended
	}
	if err := c.end(); err != nil {
		t.Fatalf("the published clients ended by %v", err)
	}
	return n
}

// record starts the clients of the fault tests.
func record(t *testing.T, target faults.Target) *faults.Load {
	t.Helper()
	load := faults.StartLoad(faults.LoadConfig{
		Targets: []faults.Target{target}, Rooms: recorderRooms, ClientsPerRoom: recorders,
		PatchesPerSecond: recorderPatches, RoomPrefix: recorderRoomNames,
	})
	t.Cleanup(func() { // if the test ends early
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		load.Finish(ctx)
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := load.AwaitSynced(ctx); err != nil {
		t.Fatal(err)
	}
	return load
}

// check ends the recording and holds it against the rooms as somebody new sees them, and against what
// must hold whatever breaks. Sockets may close at any time: how often is another question.
func check(t *testing.T, load *faults.Load, target faults.Target) faults.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := faults.Run{Recordings: load.Finish(ctx), MayClose: []faults.Window{{To: load.Since()}}}
	for i := range recorderRooms {
		// Every connect may come to another pod.
		for range 3 {
			f, err := faults.ReadFinal(ctx, target, faults.RoomName(recorderRoomNames, i))
			if err != nil {
				t.Fatal(err)
			}
			run.Finals = append(run.Finals, f)
		}
	}
	result := faults.Check(run)
	for _, v := range result.Violations[:min(len(result.Violations), 20)] {
		t.Error(v)
	}
	return result
}

func token(room string) string {
	token, err := authz.Mint([]byte(secret), authz.MintConfig{Room: room, Write: true, TTL: time.Hour})
	if err != nil {
		panic(err) // a room and a secret always make one
	}
	return token
}
