package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/weftsync/weft/integration/local"
)

const (
	takenRooms = 12
	takenEvery = 10 * time.Millisecond // of each room's one writer
	before     = time.Second           // under load before something happens
	afterwards = 500 * time.Millisecond
	longest    = 20 * time.Second // until everything has its ack again
	leaseTTL   = 2 * time.Second  // of the nodes, by default
)

// takeovers measures how long clients on other nodes wait when the owner of their rooms leaves, comes
// back, is killed, or stops.
func (b *bench) takeovers(ctx context.Context) error {
	var calm, left, joined, killed, stopped spread
	var inside handOvers
	for round := range b.rounds {
		victim := b.node(round)
		clients, err := b.others(ctx, victim)
		if err != nil {
			return err
		}
		err = b.leaveAndJoin(ctx, victim, clients, &calm, &left, &joined, &inside)
		leaveAll(clients)
		if err != nil {
			return fmt.Errorf("planned: %w", err)
		}
		for _, x := range []struct {
			how syscall.Signal
			to  *spread
		}{{syscall.SIGKILL, &killed}, {syscall.SIGSTOP, &stopped}} {
			clients, err := b.others(ctx, victim)
			if err != nil {
				return err
			}
			err = b.lose(ctx, victim, clients, x.how, x.to)
			leaveAll(clients)
			if err != nil {
				return fmt.Errorf("%v: %w", x.how, err)
			}
		}
	}
	for _, s := range []*spread{&calm, &left, &joined, &killed, &stopped} {
		s.pool()
	}
	on := fmt.Sprintf("%d rooms of one node, their writers on the two others, each a patch every %v", takenRooms, takenEvery)
	b.table.times("longest wait for an ack in a second without events", calm, 0, 0, on+"; longest of each client")
	b.table.times("planned handoff: longest wait for an ack", left, 0, 20*time.Millisecond, "the owner gets SIGTERM; longest of each client until the process has ended")
	b.table.value("planned handoff, from the last entry read to the release", inside.text(), "", noTarget,
		fmt.Sprintf("mean over %.0f partitions, by weft_cluster_handover_seconds_total", inside.count))
	b.table.times("join of a node: longest wait for an ack", joined, 0, 0, "the node is started again and gets its partitions back")
	b.table.times("kill -9 to the next ack", killed, 0, 150*time.Millisecond, "from the signal to the end of each client's longest wait")
	b.table.times("SIGSTOP to the next ack", stopped, 0, leaseTTL+500*time.Millisecond, "a stopped process holds its sockets, so only its lease tells")
	return nil
}

// others connects clients of rooms that a node owns to the other nodes.
func (b *bench) others(ctx context.Context, owner *local.Node) ([]*client, error) {
	var nodes []*local.Node
	for _, n := range b.cluster.Nodes {
		if n != owner {
			nodes = append(nodes, n)
		}
	}
	rooms, err := b.newRooms(ctx, owner, takenRooms)
	if err != nil {
		return nil, err
	}
	var at []seat
	for i, room := range rooms {
		at = append(at, seat{room, nodes[i%len(nodes)]})
	}
	return b.seats(ctx, at)
}

// during lets clients write while something happens.
func during(ctx context.Context, clients []*client, happens func(context.Context) error) error {
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		writeAll(writing, clients, documentPatch, takenEvery)
	}()
	err := happens(ctx)
	stop()
	<-done
	if err != nil {
		return err
	}
	return drain(ctx, clients)
}

// leaveAndJoin lets a node leave and come back.
func (b *bench) leaveAndJoin(ctx context.Context, victim *local.Node, clients []*client, calm, left, joined *spread, inside *handOvers) error {
	var began, signalled, gone, back, settled time.Time
	err := during(ctx, clients, func(ctx context.Context) error {
		if err := pause(ctx, before); err != nil {
			return err
		}
		began = time.Now()
		if err := pause(ctx, before); err != nil {
			return err
		}
		atFirst, err := metricsOf(ctx, victim)
		if err != nil {
			return err
		}
		signalled = time.Now()
		if err := victim.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := inside.watch(ctx, victim, atFirst); err != nil {
			return err
		}
		gone = time.Now()
		if err := pause(ctx, afterwards); err != nil {
			return err
		}
		back = time.Now()
		if err := victim.Start(ctx); err != nil {
			return err
		}
		err = b.settle(ctx)
		settled = time.Now()
		return err
	})
	if err != nil {
		return err
	}
	waits := waitsOfEach(clients)
	calm.add(longestOf(waits, began, signalled))
	left.add(longestOf(waits, signalled, gone))
	joined.add(longestOf(waits, back, settled))
	return nil
}

// lose lets a node end without a word and come back.
func (b *bench) lose(ctx context.Context, victim *local.Node, clients []*client, how syscall.Signal, to *spread) error {
	var signalled time.Time
	err := during(ctx, clients, func(ctx context.Context) error {
		if err := pause(ctx, before); err != nil {
			return err
		}
		signalled = time.Now()
		if err := victim.Signal(how); err != nil {
			return err
		}
		return awaitAcks(ctx, clients, signalled)
	})
	victim.Kill()
	if err != nil {
		return err
	}
	var values []time.Duration
	for _, list := range waitsOfEach(clients) {
		var long wait
		for _, w := range list {
			if w.to.After(signalled) && w.length() > long.length() {
				long = w
			}
		}
		values = append(values, long.to.Sub(signalled))
	}
	to.add(values)
	if err := victim.Start(ctx); err != nil {
		return err
	}
	return b.settle(ctx)
}

// awaitAcks waits until every client has an ack for what it sent after a time, and some more time.
func awaitAcks(ctx context.Context, clients []*client, after time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	for _, c := range clients {
		for !c.ackedSince(after) {
			if err := pause(ctx, takenEvery); err != nil {
				return fmt.Errorf("a client on %s gets no acks any more: %w", c.node.Name, err)
			}
		}
	}
	return pause(ctx, afterwards)
}

// ackedSince reports whether there was an ack for what was planned after a time.
func (c *client) ackedSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waited) > 0 && c.waited[len(c.waited)-1].from.After(t)
}

func waitsOfEach(clients []*client) (each [][]wait) {
	for _, c := range clients {
		each = append(each, c.take())
	}
	return each
}

// longestOf is each client's longest wait that was under way between two times.
func longestOf(each [][]wait, from, to time.Time) (values []time.Duration) {
	for _, list := range each {
		var long time.Duration
		for _, w := range list {
			if w.to.After(from) && w.from.Before(to) {
				long = max(long, w.length())
			}
		}
		values = append(values, long)
	}
	return values
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handOvers is what leaving nodes said of their handovers.
type handOvers struct{ count, seconds float64 }

func (h handOvers) text() string {
	if h.count == 0 {
		return "unknown"
	}
	return millis(time.Duration(h.seconds / h.count * 1e9))
}

// watch reads a node's metrics until its process has ended; at first they were as given.
func (h *handOvers) watch(ctx context.Context, n *local.Node, atFirst map[string]float64) error {
	const count, seconds = "weft_cluster_handovers_total", "weft_cluster_handover_seconds_total"
	last := atFirst
	for {
		if m, err := metricsOf(ctx, n); err == nil { // it listens to the end, nearly
			last = m
		}
		select {
		case <-n.Exited():
			h.count += last[count] - atFirst[count]
			h.seconds += last[seconds] - atFirst[seconds]
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
