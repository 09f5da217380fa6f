package local

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPrefixedPassesWholeLines(t *testing.T) {
	var out bytes.Buffer
	var mu sync.Mutex
	one, two := &prefixed{prefix: "one ", to: &out, mu: &mu}, &prefixed{prefix: "two ", to: &out, mu: &mu}
	fmt.Fprint(one, "a")
	fmt.Fprint(two, "x\ny")
	fmt.Fprint(one, "b\n")
	fmt.Fprint(two, "z\n\nrest")
	if got, want := out.String(), "two x\none ab\ntwo yz\ntwo \n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLastLine(t *testing.T) {
	l := &lastLine{}
	for _, part := range []string{"first\nsec", "ond", "\n", "third " + strings.Repeat("x", 2*maxLine)} {
		fmt.Fprint(l, part)
	}
	if got := l.String(); len(got) != maxLine || !strings.HasPrefix(got, "third xxx") {
		t.Errorf("the last line has %d bytes: %.20s…", len(got), got)
	}
}

func TestProgramThatEndsAtOnceSaysWhy(t *testing.T) {
	p := &Program{Name: "it", args: []string{"/bin/sh", "-c", "echo fine; echo there is no more; exit 3"}, ready: func(context.Context) bool { return false }}
	err := p.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "it ended at once: there is no more") {
		t.Errorf("got %v", err)
	}
	p.Stop() // of what has ended is nothing
}

func TestProgramIsStartedAgain(t *testing.T) {
	p := &Program{Name: "it", args: []string{"/bin/sh", "-c", "exec sleep 60"}, ready: func(context.Context) bool { return true }}
	for range 2 {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.Stop()
		select {
		case <-p.Exited():
		default:
			t.Fatal("it still runs")
		}
		if time.Since(began) > stopLimit/2 {
			t.Error("it took a SIGKILL")
		}
	}
}
