package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// portsPerSource is how many connections leave from one loopback address before the next one is
// used: a machine has some 28 000 ports to give for each pair of addresses.
const portsPerSource = 20_000

func roomID(cfg *Config, room int) string { return cfg.RoomPrefix + "-" + strconv.Itoa(room) }
func clientID(room string, i int) string  { return room + "-c" + strconv.Itoa(i) }

// ramp connects every client, the first of each room before the others: it seeds the room, and a
// server that creates rooms on the first join sees no race for that. The list holds the clients of
// each room in turn, nil for one that could not connect; that is counted as an error of the run,
// while a room whose first client fails ends it.
//
// On an error too, the caller closes the clients.
func ramp(ctx context.Context, cfg *Config, rec *recorder, rx *receivers) ([]*client, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.RampTimeout)
	defer cancel()
	clients := make([]*client, cfg.Rooms*cfg.Clients)

	firsts, rest := make([]int, 0, cfg.Rooms), make([]int, 0, len(clients))
	for i := range clients {
		if i%cfg.Clients == 0 {
			firsts = append(firsts, i)
		} else {
			rest = append(rest, i)
		}
	}
	var mu sync.Mutex
	var failed error
	each(ctx, cfg.Dials, firsts, func(i int) {
		c, err := enter(ctx, cfg, rec, rx, i)
		clients[i] = c
		if err == nil && !cfg.NoSeed {
			err = seed(ctx, c, cfg.Writers)
		}
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			if failed == nil {
				failed = fmt.Errorf("load: first client of room %s: %w", roomID(cfg, i/cfg.Clients), err)
				cancel()
			}
		}
	})
	if failed != nil {
		return clients, failed
	}
	each(ctx, cfg.Dials, rest, func(i int) {
		c, err := enter(ctx, cfg, rec, rx, i)
		if err != nil {
			rec.fail("connect: " + err.Error())
		}
		clients[i] = c
	})
	if ctx.Err() != nil {
		return clients, fmt.Errorf("load: clients not connected in time: %w", context.Cause(ctx))
	}
	return clients, nil
}

// enter connects client i and waits until it is synced. It returns the client with an error too, if
// there is one to close.
func enter(ctx context.Context, cfg *Config, rec *recorder, rx *receivers, i int) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.JoinTimeout)
	defer cancel()
	room, n := roomID(cfg, i/cfg.Clients), i%cfg.Clients
	id := clientID(room, n)
	began := time.Now()
	c, err := dial(ctx, cfg, rec, rx, room, id, hello(cfg, id, n < cfg.Writers), true, source(cfg, i))
	if err != nil {
		return nil, errors.New(reason(err)) // the cause may quote the URL, and so the token
	}
	if err := c.sync(ctx); err != nil {
		return c, err
	}
	rec.ramp.record(int64(time.Since(began)))
	return c, nil
}

// source is the local address for connection i; nil leaves the choice to the system.
func source(cfg *Config, i int) net.IP {
	u, err := url.Parse(cfg.URL)
	if err != nil || i < portsPerSource {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()).To4(); ip == nil || !ip.IsLoopback() {
		return nil
	}
	return net.IPv4(127, 0, 0, byte(1+i/portsPerSource))
}

// each calls do for every item, at most parallel at once, and returns when all have returned. Once
// ctx is done it begins no more.
func each(ctx context.Context, parallel int, items []int, do func(int)) {
	work := make(chan int)
	var wait sync.WaitGroup
	for range min(parallel, len(items)) {
		wait.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	for _, i := range items {
		if ctx.Err() != nil {
			break
		}
		work <- i
	}
	close(work)
	wait.Wait()
}
