package room

import (
	"context"
	"math"
	"time"
)

const (
	// paceStep is how often a paced drain closes sockets: what is due within it
	// goes together.
	paceStep = 10 * time.Millisecond
	// paceCatchUp is the pause between two steps of a drain that is late.
	paceCatchUp = 2 * time.Millisecond
	// paceShare is the share of the time left in which the last socket is to be
	// closed; the rest is for what was late, and for clients to leave in order.
	paceShare = 0.8
)

// CloseAtPace calls closeNth with 0, 1 … n-1, rate times a second, or faster if
// the context's deadline would come first: so fast that the last call is made
// when four fifths of the time left are over. The calls are spread evenly, in
// steps of 10 ms, because clients come back a fixed time after their sockets
// close: what closes at once comes back at once.
//
// A rate below 1 leaves the pace to the deadline; without a deadline either, all
// is closed at once. A drain that was held up makes up for it, at most five
// times as fast.
//
// It returns how many calls it made: all n, or fewer with the context's error.
func CloseAtPace(ctx context.Context, rate, n int, closeNth func(i int)) (closed int, err error) {
	deadline, limited := ctx.Deadline()
	pace := max(0, float64(rate)) // calls a second; never falls
	due := 1.0                    // how many calls should have been made by now, beyond those that were
	if rate < 1 && !limited {
		pace, due = math.MaxInt32, float64(n)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for last := time.Now(); ; {
		if err := ctx.Err(); err != nil && closed < n {
			return closed, err
		}
		if limited {
			left := max(time.Until(deadline), time.Millisecond).Seconds()
			pace = max(pace, float64(n-closed)/(paceShare*left))
		}
		batch := math.Ceil(pace * paceStep.Seconds())
		for end := min(closed+int(batch), n); due >= 1 && closed < end; due-- {
			closeNth(closed)
			closed++
		}
		if closed == n {
			return n, nil
		}
		wait := max(paceStep, time.Duration((1-due)/pace*float64(time.Second)))
		if due >= 1+batch/2 {
			wait = paceCatchUp
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		now := time.Now()
		due = min(due+now.Sub(last).Seconds()*pace, float64(n-closed))
		last = now
	}
}
