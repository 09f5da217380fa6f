package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"time"
)

// Join checks Redis, joins the cluster, and returns when the node takes part.
// ctx bounds only that.
//
// What may pass by itself is waited for until ctx ends: a Redis that cannot be
// reached or looked up, that loads, is full, or is a replica just now; Sentinels
// that know no master; the first lease. [Config.OnWait] hears of it. The error
// says then what was last waited for, and wraps the context's. What a person must
// mend ends it at once: the error wraps [ErrUnfit], or says which address cannot
// be listened at. The errors are sentences that say what to do.
func Join(ctx context.Context, c Config) (*Node, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.keyring, err = newKeyring(c.GossipKeys); err != nil {
		return nil, err
	}
	n := &Node{config: c, clients: newClients(c.Redis)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	w := waiting{onWait: c.OnWait, log: c.Logger}
	err = w.until(ctx, func() error {
		return checkRedis(ctx, n.clients.control, c.Prefix, ringParameters(), c.Logger)
	})
	var i *incarnation
	if err == nil {
		err = w.until(ctx, func() (err error) {
			i, err = begin(ctx, &n.config, n.clients, &n.stats)
			return err
		})
	}
	if err != nil {
		n.cancel()
		return nil, errors.Join(err, n.clients.close())
	}
	n.life.Store(i)
	if err := n.register(c.Registerer); err != nil {
		n.cancel()
		i.abandon()
		return nil, errors.Join(err, n.clients.close())
	}
	n.tasks.Go(n.live)
	return n, nil
}

// hereError is an error of this machine, as of a port that is taken, for which
// it is no use to wait.
type hereError struct{ err error }

func (e *hereError) Error() string { return e.err.Error() }
func (e *hereError) Unwrap() error { return e.err }

// waiting repeats what fails for a reason that may pass by itself.
type waiting struct {
	onWait func(error) // may be nil
	log    *slog.Logger

	told   string // what was logged last
	toldAt time.Time
}

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 2 * time.Second
	tellAgain   = 10 * time.Second // to log the same once more
)

// until calls attempt until it succeeds, fails for good, or the context ends.
func (w *waiting) until(ctx context.Context, attempt func() error) error {
	var last error // why the last attempt failed that the context's end did not cut short
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		err := attempt()
		if err == nil || errors.Is(err, ErrUnfit) || errors.As(err, new(*hereError)) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if ctx.Err() == nil {
			w.tell(err)
			select {
			case <-ctx.Done():
			case <-time.After(wait/2 + rand.N(wait)): // nodes that started together do not ask together
			}
		}
		if ctx.Err() != nil {
			return &waitError{last, ctx.Err(), context.Cause(ctx)}
		}
	}
}

// waitError is what was waited for when the context ended.
type waitError struct{ last, ended, cause error }

func (e *waitError) Error() string {
	return fmt.Sprintf("%v; it was waited for until: %v", e.last, e.cause)
}
func (e *waitError) Unwrap() []error { return []error{e.last, e.ended, e.cause} }

// ownPort is what differs each time in what the system says of a connection.
var ownPort = regexp.MustCompile(`:\d+->`)

func (w *waiting) tell(err error) {
	if w.onWait != nil {
		w.onWait(err)
	}
	what := ownPort.ReplaceAllString(err.Error(), "->")
	if what != w.told || time.Since(w.toldAt) >= tellAgain {
		w.told, w.toldAt = what, time.Now()
		w.log.Warn("this node cannot take part yet; it goes on trying", "waits_for", err)
	}
}
