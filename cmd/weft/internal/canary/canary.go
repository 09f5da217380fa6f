// Package canary tries out whether servers of Weft do what they are there for:
// it joins a room through each of some URLs, edits through the first, sees the
// edit through the others, and takes it away again. [Run] is all there is.
package canary

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Config says what to try.
type Config struct {
	// URLs are those of the servers: ws, wss, http or https, any path and query.
	// A single one is joined twice, as two clients are behind a load balancer.
	URLs []string
	// Room and Token are what every client connects with; the token must allow to
	// write. What the canary writes is under one key, of which a tombstone stays.
	Room, Token string
	// Report gets a line for each thing that went well, with the time it took.
	Report io.Writer
}

// ErrConfig is wrapped by errors about the config.
var ErrConfig = errors.New("wrong config")

// key is where the canary writes: the same each time, since what is deleted
// leaves a trace in the room.
const key = "weft-canary/probe"

// cleanTime bounds the taking away of an edit after a failure.
const cleanTime = 2 * time.Second

// Run tries the servers out. The error says what failed and through which URL;
// ctx bounds it all.
func Run(ctx context.Context, c Config) (err error) {
	targets, err := c.targets()
	if err != nil {
		return err
	}
	nonce := rand.Text()
	clients := make([]*client, len(targets))
	for i, t := range targets {
		clients[i] = &client{target: t, id: fmt.Sprintf("canary-%s-%d", nonce, i+1)}
	}
	defer func() {
		each(clients, func(_ int, k *client) error { k.close(err == nil); return nil })
	}()
	if err := c.connect(ctx, clients); err != nil {
		return err
	}
	writer := clients[0]
	edit := map[string]any{"_exists": true, "nonce": nonce, "numbers": []any{1.5, -2.0, 0.0}, "text": "canary \U0001F426"}
	if err := c.patch(ctx, writer, clients, nonce, edit); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		_ = writer.send(clean, nonce+"-clean", map[string]any{"_exists": false}) // it has failed already
		return err
	}
	if err := c.patch(ctx, writer, clients, nonce+"-delete", map[string]any{"_exists": false}); err != nil {
		return fmt.Errorf("taking the edit away: %w", err)
	}
	_, err = fmt.Fprintf(c.Report, "ok: an edit through %s was acknowledged and seen by %d more, in room %q\n", writer.name, len(clients)-1, c.Room)
	return err
}

// patch writes through one client and waits until it has its acknowledgement,
// and the others have the same content.
func (c Config) patch(ctx context.Context, writer *client, clients []*client, id string, content map[string]any) error {
	sent := make(chan struct{})
	names := func(k *client) string {
		switch {
		case k == writer && content["_exists"] == false:
			return "delete"
		case k == writer:
			return "ack"
		}
		return "broadcast"
	}
	var began time.Time
	return c.hop(ctx, names, clients, func(ctx context.Context, k *client) (time.Duration, error) {
		if k == writer {
			began = time.Now()
			err := k.send(ctx, id, content)
			close(sent)
			if err == nil {
				err = k.await(ctx, "the acknowledgement of the edit", func(m message) bool { return m.Type == "ack" && m.MessageID == id })
			}
			return time.Since(began), err
		}
		err := k.await(ctx, "the edit, which a client that may not write cannot make", func(m message) bool { return m.Type == "patch" && m.has(writer.id, content) })
		<-sent
		return time.Since(began), err
	})
}

func (c Config) connect(ctx context.Context, clients []*client) error {
	return c.hop(ctx, func(*client) string { return "connect" }, clients, func(ctx context.Context, k *client) (time.Duration, error) {
		began := time.Now()
		err := k.connect(ctx, c.Room, c.Token)
		return time.Since(began), err
	})
}

// errGivenUp is why the others end when one has failed.
var errGivenUp = errors.New("another client has failed")

// hop does something with all clients at once, and reports how long each took.
// When one fails, the others are given up.
func (c Config) hop(ctx context.Context, name func(*client) string, clients []*client, do func(context.Context, *client) (time.Duration, error)) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	took := make([]time.Duration, len(clients))
	errs := each(clients, func(i int, k *client) (err error) {
		if took[i], err = do(ctx, k); err != nil {
			giveUp(errGivenUp)
		}
		return err
	})
	for i, k := range clients {
		if errors.Is(errs[i], errGivenUp) {
			errs[i] = nil
			continue
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s %s: %w", name(k), k.name, errs[i])
			continue
		}
		if _, err := fmt.Fprintf(c.Report, "%-10s %-40s %8.1f ms\n", name(k), k.name, float64(took[i].Microseconds())/1000); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func each(clients []*client, do func(int, *client) error) []error {
	errs := make([]error, len(clients))
	var all sync.WaitGroup
	for i, k := range clients {
		all.Go(func() { errs[i] = do(i, k) })
	}
	all.Wait()
	return errs
}

// target is a URL to connect to, and what it is called: without what may be
// secret in it.
type target struct {
	url  url.URL
	name string
}

func (c Config) targets() ([]target, error) {
	urls := c.URLs
	switch {
	case len(urls) == 0:
		return nil, fmt.Errorf("%w: there is no URL to try", ErrConfig)
	case len(urls) == 1:
		urls = []string{urls[0], urls[0]}
	}
	var list []target
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("%w: URL %d is none, such as wss://canvas.example.com", ErrConfig, i+1)
		}
		switch u.Scheme {
		case "ws", "wss":
		case "http", "https":
			u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
		default:
			return nil, fmt.Errorf("%w: URL %d begins with none of ws://, wss://, http:// and https://", ErrConfig, i+1)
		}
		name := u.Scheme + "://" + u.Host + u.EscapedPath()
		if len(c.URLs) == 1 {
			name += fmt.Sprintf(" (%d)", i+1)
		}
		list = append(list, target{*u, name})
	}
	return list, nil
}

// message is what a server sends, as far as it matters here.
type message struct {
	Type            string
	MessageID       string
	ClientID        string
	DocumentPatches []map[string]json.RawMessage
}

// has reports whether the message says that a client has written a content.
func (m message) has(client string, content map[string]any) bool {
	for _, patch := range m.DocumentPatches {
		var got map[string]any
		if m.ClientID == client && json.Unmarshal(patch[key], &got) == nil && reflect.DeepEqual(got, content) {
			return true
		}
	}
	return false
}
