package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// chance is a partition that may be claimed.
type chance struct {
	partition int
	seen      string // its epoch
	offered   bool   // its owner has released it to this node
	taken     bool   // its owner is dead
}

// strayRounds is how often, in rounds, a node looks for partitions that are said
// to be its own and are not, as after Redis has lost that they were released.
const strayRounds = 10

// chances finds out which of the wanted partitions nobody owns, and which of the
// others only this node can claim.
func (o *ownership) chances(ctx context.Context, wanted, others []int) ([]chance, error) {
	mine := len(wanted)
	wanted = append(wanted, others...)
	if len(wanted) == 0 {
		return nil, nil
	}
	pipe := o.inc.control.Pipeline()
	for _, n := range wanted {
		pipe.HMGet(ctx, o.inc.keys.own(n), "epoch", "owner", "released")
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return nil, err
	}
	var chances []chance
	for at, cmd := range cmds {
		values := cmd.(*redis.SliceCmd).Val()
		epoch, _ := values[0].(string)
		owner, _ := values[1].(string)
		released, _ := values[2].(string)
		if at >= mine && (owner != o.inc.id || released == "1") {
			continue
		}
		c := chance{partition: wanted[at], seen: epoch, taken: owner != "" && owner != o.inc.id && released != "1"}
		if c.taken {
			o.inc.liveness.watch(owner)
			if !o.inc.liveness.dead(owner) {
				continue
			}
		}
		if !c.taken && o.inc.liveness.blind() {
			continue // Redis may have forgotten who claimed it: whoever lives takes it back first
		}
		if epoch == "" {
			c.seen = "0"
		}
		chances = append(chances, c)
	}
	return chances, nil
}

// claim claims partitions, unless somebody else is faster.
func (o *ownership) claim(ctx context.Context, chances []chance) error {
	if len(chances) == 0 {
		return nil
	}
	k := o.inc.keys
	pipe := o.inc.control.Pipeline()
	now := strconv.FormatInt(time.Now().UnixMicro(), 10)
	evals := make([]*redis.Cmd, len(chances))
	for at, c := range chances {
		n := c.partition
		evals[at] = claimScript.Eval(ctx, pipe, []string{k.own(n), k.base(n), k.tries(n)}, c.seen, o.inc.id, now)
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	var errs []error
	for at, c := range chances {
		got, err := parseClaimed(evals[at])
		switch {
		case errors.Is(err, redis.Nil): // somebody else was faster
		case err != nil:
			errs = append(errs, fmt.Errorf("partition %d: %w", c.partition, err))
		default:
			if c.taken {
				o.inc.stats.takeovers.Add(1)
			}
			got.offered = c.offered
			o.own(c.partition, got)
		}
	}
	return errors.Join(errs...)
}

func parseClaimed(cmd *redis.Cmd) (c claimed, err error) {
	values, err := cmd.Slice()
	if err != nil {
		return c, err
	}
	text := func(n int) string {
		s, _ := values[n].(string)
		return s
	}
	if len(values) != 5 {
		return c, errEncoding
	}
	if c.epoch, err = strconv.ParseUint(text(0), 10, 64); err != nil {
		return c, err
	}
	if text(1) != "" {
		if c.base.position, err = ParseID(text(1)); err != nil {
			return c, err
		}
	}
	if c.base.edges, err = parseEdges([]byte(text(2))); err != nil {
		return c, err
	}
	if text(3) != "" {
		if c.quiet, err = ParseID(text(3)); err != nil {
			return c, err
		}
	}
	c.tries = map[place]int{}
	list, _ := values[4].([]any)
	for n := 0; n+1 < len(list); n += 2 {
		field, _ := list[n].(string)
		value, _ := list[n+1].(string)
		tries, err := strconv.Atoi(value)
		if at, ok := parsePlace(field); ok && err == nil {
			c.tries[at] = tries
		}
	}
	return c, nil
}

// own begins to own a partition.
func (o *ownership) own(n int, c claimed) {
	p := newPartition(o.inc, n, c)
	o.mu.Lock()
	before := o.owned[n]
	o.owned[n] = p
	o.mu.Unlock()
	if before != nil {
		before.fence()
	}
	o.inc.stats.claims.Add(1)
	o.inc.tasks.Go(p.run)
}
