package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weftsync/weft/integration/local"
)

const partitions = 271

// owners is the name of each partition's node; empty for none.
func (b *bench) owners(ctx context.Context) (list [partitions]string, err error) {
	pipe := b.redis.Pipeline()
	for n := range partitions {
		pipe.HGet(ctx, fmt.Sprintf("weft:{p%d}:own", n), "owner")
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return list, fmt.Errorf("who owns what: %w", err)
	}
	for n, cmd := range cmds {
		text, _ := cmd.(interface{ Result() (string, error) }).Result() // pipe.Exec has told
		list[n], _, _ = strings.Cut(text, ".")
	}
	return list, nil
}

// newRooms names rooms that one node owns.
func (b *bench) newRooms(ctx context.Context, owner *local.Node, count int) ([]string, error) {
	owners, err := b.owners(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	for tries := 0; len(list) < count; tries++ {
		if tries > 1000*(count+1) {
			return nil, fmt.Errorf("%s owns hardly anything", owner.Name)
		}
		b.rooms++
		name := "room-" + strconv.Itoa(b.rooms)
		if owners[xxhash.Sum64String(name)%partitions] == owner.Name {
			list = append(list, name)
		}
	}
	return list, nil
}

// node is one of the nodes, whatever the number.
func (b *bench) node(n int) *local.Node { return b.cluster.Nodes[n%len(b.cluster.Nodes)] }

const (
	settlePoll    = 100 * time.Millisecond
	settleTimes   = 10
	settleTimeout = 30 * time.Second
)

// settle waits until every node owns its share of the partitions, and keeps it for a second.
func (b *bench) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	before, same := "", 0
	for same < settleTimes {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the nodes do not agree on who owns what; owned: %s", before)
		case <-time.After(settlePoll):
		}
		now, sum, all := "", 0, true
		for _, n := range b.cluster.Nodes {
			m, err := metricsOf(ctx, n)
			if err != nil {
				return err
			}
			owned := int(m["weft_cluster_owned_partitions"])
			sum += owned
			all = all && owned > 0
			now += fmt.Sprintf(" %s %d", n.Name, owned)
		}
		same++
		if now != before || sum != partitions || !all {
			same = 0
		}
		before = now
	}
	return nil
}

// metricsOf reads a node's metrics; those with labels are left out.
func metricsOf(ctx context.Context, n *local.Node) (map[string]float64, error) {
	body, err := get(ctx, n, "/metrics")
	if err != nil {
		return nil, err
	}
	m := map[string]float64{}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	return m, nil
}

func get(ctx context.Context, n *local.Node, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Admin+path, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", n.Name, err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err != nil {
		return "", fmt.Errorf("%s of %s: %w", path, n.Name, err)
	}
	return string(b), nil
}

// heap is what a node's heap holds, in bytes, after garbage was collected.
func heap(ctx context.Context, n *local.Node) (float64, error) {
	for range 2 { // what has a finalizer goes the second time
		if _, err := get(ctx, n, "/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	m, err := metricsOf(ctx, n)
	return m["go_memstats_heap_alloc_bytes"], err
}

// redisUse is what Redis has used so far.
type redisUse struct {
	cpu, memory float64 // seconds, bytes
	keys        int64
	at          time.Time
	commands    map[string]string // by name: calls=…,usec=…,…
}

// commandsSince says how often Redis did what for each frame, and how long that took it in all.
func (u redisUse) commandsSince(before redisUse, frames int64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(u.commands)) {
		var was, is struct{ calls, usec float64 }
		_, _ = fmt.Sscanf(before.commands[name], "calls=%f,usec=%f", &was.calls, &was.usec) // it may be new
		_, _ = fmt.Sscanf(u.commands[name], "calls=%f,usec=%f", &is.calls, &is.usec)
		calls, usec := (is.calls-was.calls)/float64(frames), (is.usec-was.usec)/float64(frames)
		if usec >= 0.1 {
			list = append(list, fmt.Sprintf("%s %.2f × in %.1f µs", strings.TrimPrefix(name, "cmdstat_"), calls, usec))
		}
	}
	return strings.Join(list, ", ")
}

func (b *bench) redisUse(ctx context.Context) (u redisUse, err error) {
	pipe := b.redis.Pipeline()
	cpu, memory, size := pipe.InfoMap(ctx, "cpu"), pipe.InfoMap(ctx, "memory"), pipe.DBSize(ctx)
	commands := pipe.InfoMap(ctx, "commandstats")
	if _, err := pipe.Exec(ctx); err != nil {
		return u, fmt.Errorf("what Redis uses: %w", err)
	}
	for _, x := range []struct {
		to   *float64
		text string
	}{
		{&u.cpu, cpu.Item("CPU", "used_cpu_user")}, {&u.cpu, cpu.Item("CPU", "used_cpu_sys")},
		{&u.memory, memory.Item("Memory", "used_memory")},
	} {
		v, err := strconv.ParseFloat(x.text, 64)
		if err != nil {
			return u, fmt.Errorf("what Redis uses: %w", err)
		}
		*x.to += v
	}
	u.keys, u.at, u.commands = size.Val(), time.Now(), commands.Val()["Commandstats"]
	return u, nil
}

// seat is where a client is to be.
type seat struct {
	room string
	node *local.Node
}

const joinsAtOnce = 50

// seats connects clients, a few at a time. After an error none is connected.
func (b *bench) seats(ctx context.Context, list []seat) ([]*client, error) {
	clients, errs := make([]*client, len(list)), make([]error, len(list))
	var all sync.WaitGroup
	slots := make(chan struct{}, joinsAtOnce)
	for i, s := range list {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			clients[i], errs[i] = join(ctx, s.node, s.room, "c"+strconv.Itoa(i))
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, c := range clients {
			if c != nil {
				c.leave()
			}
		}
		return nil, err
	}
	return clients, nil
}
