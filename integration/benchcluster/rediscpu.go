package main

import (
	"context"
	"fmt"
	"time"

	"github.com/weftsync/weft/integration/local"
)

const (
	busyRooms    = 250
	busyEvery    = 50 * time.Millisecond // of each room's one writer: 5000 a second in all
	cursors      = 20
	cursorEvery  = time.Second / 60
	redisTarget  = 60 // µs of Redis's CPU
	quietAfter   = 4 * time.Second
	longestQuiet = 10 * time.Second
)

// redisCPU measures what a frame costs Redis if its writer, the room's owner and another client are at
// three nodes, and what a room full of moving cursors costs.
func (b *bench) redisCPU(ctx context.Context) error {
	at0, err := b.redisUse(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.duration); err != nil {
		return err
	}
	at1, err := b.redisUse(ctx)
	if err != nil {
		return err
	}
	b.table.value("Redis CPU without any client", fmt.Sprintf("%.1f %% of a core", 100*(at1.cpu-at0.cpu)/at1.at.Sub(at0.at).Seconds()), "", noTarget, "three nodes that own nothing but empty rooms")

	var writers, viewers []seat
	for i := range busyRooms {
		rooms, err := b.newRooms(ctx, b.node(i), 1)
		if err != nil {
			return err
		}
		writers = append(writers, seat{rooms[0], b.node(i + 1)})
		viewers = append(viewers, seat{rooms[0], b.node(i + 2)})
	}
	clients, err := b.seats(ctx, append(writers, viewers...))
	if err != nil {
		return err
	}
	defer leaveAll(clients)
	write, view := clients[:busyRooms], clients[busyRooms:]

	var acks spread
	documents, err := b.redisPerFrame(ctx, write, view, documentPatch, busyEvery, &acks)
	if err != nil {
		return err
	}
	presences, err := b.redisPerFrame(ctx, write, view, presencePatch, busyEvery, nil)
	if err != nil {
		return err
	}
	leaveAll(clients)
	if err := pause(ctx, quietAfter); err != nil { // or the readers still look at the other rooms' logs
		return err
	}

	rooms, err := b.newRooms(ctx, b.node(0), 1)
	if err != nil {
		return err
	}
	var at []seat
	for i := range cursors {
		at = append(at, seat{rooms[0], b.node(i)})
	}
	people, err := b.seats(ctx, at)
	if err != nil {
		return err
	}
	defer leaveAll(people)
	moving, err := b.redisPerFrame(ctx, people, people, presencePatch, cursorEvery, nil)
	if err != nil {
		return err
	}

	target := fmt.Sprintf("≤ %d µs", redisTarget)
	on := fmt.Sprintf("%d rooms × %d/s; writer, owner and another client at three nodes", busyRooms, time.Second/busyEvery)
	b.table.value("Redis CPU per patch at 5000/s", documents.text(), target, within(documents.perFrame, redisTarget), on)
	b.table.times("ack through another node at 5000/s", acks, 0, 0, "the same run")
	b.table.value("Redis CPU per presence frame at 5000/s", presences.text(), target, within(presences.perFrame, redisTarget), on)
	for _, x := range []struct {
		what string
		cost redisCost
	}{{"a patch at 5000/s", documents}, {"a presence frame at 5000/s", presences}, {"a frame of 20 cursors × 60/s", moving}} {
		b.table.note("Redis for %s, calls and time of the commands (those of scripts within evalsha and again by themselves): %s", x.what, x.cost.commands)
	}
	b.table.value("Redis CPU of 20 cursors × 60/s", moving.text(), "", noTarget, "1 room, its clients spread over three nodes")
	return nil
}

// redisCost is what frames have cost Redis: medians over the rounds.
type redisCost struct {
	perFrame    float64 // µs
	share, rate float64 // of a core; frames a second
	weft        float64 // µs of all nodes together
	commands    string  // what Redis did for a frame, in the last round
}

func (c redisCost) text() string {
	return fmt.Sprintf("%.1f µs (%.0f %% of a core at %.0f/s; the nodes: %.0f µs)", c.perFrame, 100*c.share, c.rate, c.weft)
}

func (b *bench) redisPerFrame(ctx context.Context, write, view []*client, what sending, every time.Duration, acks *spread) (c redisCost, err error) {
	var per, share, rate, weft []float64
	for round := range b.rounds + 1 {
		d := b.duration
		if round == 0 {
			d = time.Second // to warm up
		}
		before, err := b.redisUse(ctx)
		if err != nil {
			return c, err
		}
		seen, nodes := got(view), b.nodesCPU()
		sent, err := writeFor(ctx, write, what, every, d)
		if err != nil {
			return c, err
		}
		if err := awaitQuiet(ctx, view, seen); err != nil {
			return c, err
		}
		after, err := b.redisUse(ctx)
		if err != nil {
			return c, err
		}
		waits := waitsOf(write)
		if round == 0 {
			continue
		}
		c.commands = after.commandsSince(before, sent)
		cpu, seconds := after.cpu-before.cpu, after.at.Sub(before.at).Seconds()
		per = append(per, 1e6*cpu/float64(sent))
		share, rate = append(share, cpu/seconds), append(rate, float64(sent)/seconds)
		weft = append(weft, 1e6*(b.nodesCPU()-nodes).Seconds()/float64(sent))
		if acks != nil {
			acks.add(waits)
		}
	}
	c.perFrame, c.share, c.rate, c.weft = median(per), median(share), median(rate), median(weft)
	return c, nil
}

// nodesCPU is the CPU time of all nodes so far.
func (b *bench) nodesCPU() (sum time.Duration) {
	for _, n := range b.cluster.Nodes {
		sum += local.CPUTime(n.PID())
	}
	return sum
}

// got is how much clients have got of others.
func got(list []*client) (n int64) {
	for _, c := range list {
		n += c.patches.Load() + c.presences.Load()
	}
	return n
}

// awaitQuiet waits until clients have got more than before, and no more comes.
func awaitQuiet(ctx context.Context, list []*client, before int64) error {
	ctx, cancel := context.WithTimeout(ctx, longestQuiet)
	defer cancel()
	last := int64(-1)
	for {
		now := got(list)
		if now > before && now == last {
			return nil
		}
		last = now
		select {
		case <-ctx.Done():
			return fmt.Errorf("the other clients have got nothing, or get more and more: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
