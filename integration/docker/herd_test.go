package docker

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A herd of published clients whose tokens have expired comes back for ever; see ../node/herd.mjs. What
// it costs is counted when the clients have found their pace.
const (
	herdClients = 1000
	herdFrom    = 12 * time.Second // all try again 7.5 and 15.5 seconds after they first did
	herdUntil   = 42 * time.Second
	herdPerSec  = 120 // what may reach a server, or an application behind it
)

// herdStats is what a herd has done since it came.
type herdStats struct {
	Tried, Opened int
	Seconds       float64
}

// measureHerd lets a herd come and returns by how much count grows a second once it has found its pace.
func measureHerd(t *testing.T, url string, count func() float64) (perSecond float64) {
	t.Helper()
	herd := startClients(t, 2*time.Minute, "../node/herd.mjs", "WEFT_URL="+url, fmt.Sprint("HERD_CLIENTS=", herdClients))
	var began, ended herdStats
	at := func(when time.Duration, s *herdStats) float64 {
		for herd.stats(t, s); s.Seconds < when.Seconds(); herd.stats(t, s) {
			time.Sleep(100 * time.Millisecond) // between two looks
		}
		return count()
	}
	before := at(herdFrom, &began)
	after := at(herdUntil, &ended)
	if ended.Opened > 0 {
		t.Errorf("%d sockets opened for a token that has expired", ended.Opened)
	}
	if ended.Tried < 2*herdClients {
		t.Errorf("%d clients tried %d times: this is no herd", herdClients, ended.Tried)
	}
	seconds := ended.Seconds - began.Seconds
	t.Logf("%d clients tried %.0f times a second, %.0f were counted", herdClients, float64(ended.Tried-began.Tried)/seconds, (after-before)/seconds)
	return (after - before) / seconds
}

func TestHerdOfRefusedClients(t *testing.T) {
	t.Run("is kept out", func(t *testing.T) {
		t.Parallel() // beside the other one; a herd takes its time
		herdIsKeptOut(t)
	})
	t.Run("asks the application seldom", func(t *testing.T) {
		t.Parallel()
		herdAsksSeldom(t)
	})
}

// herdIsKeptOut: behind the balancer, while somebody else works.
func herdIsKeptOut(t *testing.T) {
	network := newNetwork(t)
	node := startWeft(t, "weft-1", network, "WEFT_STORE=memory")
	b := startHAProxy(t, network, node)
	honest := dial(t, b.URL(), "r", "honest")
	worked, stop := context.WithCancel(t.Context())
	var worst time.Duration
	var working sync.WaitGroup
	working.Go(func() {
		for i := 0; worked.Err() == nil; i++ {
			began := time.Now()
			exchangeOn(t, honest, fmt.Sprint("m", i)) // which answers pings, too
			worst = max(worst, time.Since(began))
			time.Sleep(100 * time.Millisecond) // as somebody who works
		}
	})
	defer working.Wait()
	defer stop()
	const refused = `weft_upgrades_refused_total{reason="expired_token"}`
	rate := measureHerd(t, b.URL(), func() float64 { return node.metric(t, refused) })
	if rate == 0 || rate > herdPerSec {
		t.Errorf("%.0f refusals a second, want some and at most %d", rate, herdPerSec)
	}
	stop()
	working.Wait()
	t.Logf("meanwhile somebody else's edits were acknowledged within %v", worst.Round(time.Millisecond))
}

// herdAsksSeldom: what 1000 tokens, each of which is refused, cost a webhook.
func herdAsksSeldom(t *testing.T) {
	var asked atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(hook.Close)
	public := fmt.Sprintf("%s:%d", loopback, freePort(t))
	node := runBinary(t, nil, "--store", "memory", "--listen", public, "--auth-webhook-url", hook.URL)
	node.awaitReady(t)
	rate := measureHerd(t, "ws://"+public+"/", func() float64 { return float64(asked.Load()) })
	if asked.Load() < herdClients {
		t.Errorf("the webhook was asked %d times about %d tokens", asked.Load(), herdClients)
	}
	if rate > herdPerSec {
		t.Errorf("the webhook was asked %.0f times a second, want at most %d", rate, herdPerSec)
	}
}
