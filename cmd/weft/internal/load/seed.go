package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/gobwas/ws"
)

// seedBytes is about how long one seeding frame gets. The next goes out when it has been acked.
const seedBytes = 256 << 10

// seed creates, through c, what the workload's patches need to find in c's room.
func seed(ctx context.Context, c *client, writers int) error {
	cfg := c.cfg
	s := seeder{client: c}
	switch cfg.Workload {
	case Document, Large:
		for i := range cfg.Components {
			err := s.add(ctx, func(b []byte) []byte {
				b = appendBlockKey(b, i)
				return appendBlock(append(b, `":`...), i)
			})
			if err != nil {
				return err
			}
		}
	case Pen:
		random := rand.New(rand.NewPCG(1, 1))
		for i := range writers {
			err := s.add(ctx, func(b []byte) []byte {
				b = appendStrokeKey(b, clientID(c.room, i), 0)
				b = append(b, `":{"_exists":true,"color":"#2e86ab","points":`...)
				b = appendPoints(b, startPoints(cfg, i, writers), random)
				return append(b, '}')
			})
			if err != nil {
				return err
			}
		}
	}
	return s.flush(ctx)
}

// seeder gathers components into document patches of a bounded size.
type seeder struct {
	client *client
	frame  []byte
	sent   int
}

// add appends one component; value appends its key, the quote and the colon after it, and its data.
func (s *seeder) add(ctx context.Context, value func([]byte) []byte) error {
	if len(s.frame) == 0 {
		s.frame = append(s.frame, `{"type":"patch","messageId":"seed-`...)
		s.frame = strconv.AppendInt(s.frame, int64(s.sent), 10)
		s.frame = append(s.frame, `","documentPatches":[{"`...)
	} else {
		s.frame = append(s.frame, `,"`...)
	}
	s.frame = value(s.frame)
	if len(s.frame) < seedBytes {
		return nil
	}
	return s.flush(ctx)
}

// flush sends what was added and waits for its ack.
func (s *seeder) flush(ctx context.Context) error {
	if len(s.frame) == 0 {
		return nil
	}
	s.frame = append(s.frame, `}]}`...)
	var out bytes.Buffer
	if err := s.client.write(&out, ws.OpText, s.frame); err != nil {
		return fmt.Errorf("seed: %s", reason(err))
	}
	s.frame = s.frame[:0]
	s.sent++
	select {
	case <-s.client.acked:
		return nil
	case <-s.client.ended:
		return errors.New("seed: connection ended")
	case <-ctx.Done():
		return fmt.Errorf("seed: no ack: %w", ctx.Err())
	}
}
