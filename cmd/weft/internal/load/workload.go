package load

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
)

// writer is a client's part in the workload: the state from which its patches are made.
type writer struct {
	client *client
	random *rand.Rand
	stroke int // Pen: which of the writer's two strokes it is drawing
	points int // Pen: how long that stroke is
}

// hello is a client's first frame. A writer of Presence enters with its cursor.
func hello(cfg *Config, id string, writes bool) string {
	b := []byte(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2`)
	if writes && cfg.Workload == Presence {
		b = append(b, `,"ephemeralPatches":[{"`...)
		b = append(b, id...)
		b = append(b, `/Cursor":{"_exists":true,"position":[0,0],"color":"#e4572e","name":"`...)
		b = append(b, id...)
		b = append(b, `"}}]`...)
	}
	return string(append(b, '}'))
}

// patch appends the writer's next patch to dst. tag, which goes into it twice, is the time for
// which its sending was planned.
func (w *writer) patch(dst []byte, cfg *Config, tag int64) []byte {
	dst = append(dst, `{"type":"patch","messageId":"`...)
	dst = strconv.AppendInt(dst, tag, 10)
	switch cfg.Workload {
	case Presence:
		dst = append(dst, `","ephemeralPatches":[{"`...)
		dst = append(dst, w.client.id...)
		dst = append(dst, `/Cursor":{"position":`...)
		dst = w.position(dst)
	case Pen:
		dst = append(dst, `","documentPatches":[{"`...)
		dst = w.pen(dst, cfg)
	default:
		dst = append(dst, `","documentPatches":[{"`...)
		dst = appendBlockKey(dst, w.random.IntN(cfg.Components))
		dst = append(dst, `":{"position":`...)
		dst = w.position(dst)
	}
	dst = append(dst, `,"sentAt":`...)
	dst = strconv.AppendInt(dst, tag, 10)
	return append(dst, `}}]}`...)
}

func (w *writer) position(dst []byte) []byte {
	dst = append(dst, '[')
	dst = strconv.AppendInt(dst, int64(w.random.IntN(4000)), 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(1+w.random.IntN(9)), 10)
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, int64(w.random.IntN(4000)), 10)
	return append(dst, ".5]"...)
}

// pen appends points to the writer's stroke, or begins the next one when this one is full. Two
// strokes take turns, so that a room's size is bounded however long the run.
func (w *writer) pen(dst []byte, cfg *Config) []byte {
	begins := w.points >= cfg.StrokePoints
	if begins {
		w.stroke, w.points = 1-w.stroke, 0
	}
	n := min(cfg.PointsPerPatch, cfg.StrokePoints-w.points)
	dst = appendStrokeKey(dst, w.client.id, w.stroke)
	if begins {
		dst = append(dst, `":{"_exists":true,"color":"#2e86ab","points":`...)
		dst = appendPoints(dst, n, w.random)
	} else {
		dst = append(dst, `":{"points":{"__buf":1,"len":`...)
		dst = strconv.AppendInt(dst, int64(2*(w.points+n)), 10)
		dst = append(dst, `,"runs":[[`...)
		dst = strconv.AppendInt(dst, int64(2*w.points), 10)
		dst = append(dst, ',')
		dst = appendPoints(dst, n, w.random)
		dst = append(dst, `]]}`...)
	}
	w.points += n
	return dst
}

// startPoints is how long the stroke of writer i of n is at the start: they are spread between
// empty and full, so that a short run sees every length.
func startPoints(cfg *Config, i, n int) int {
	return max(1, cfg.StrokePoints*i/max(n, 1))
}

// appendPoints appends n points as one flat array of 2n numbers, as the client keeps them.
func appendPoints(dst []byte, n int, random *rand.Rand) []byte {
	dst = append(dst, '[')
	for i := range 2 * n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(random.IntN(4000)), 10)
		dst = append(dst, '.')
		dst = strconv.AppendInt(dst, int64(1+random.IntN(9)), 10)
	}
	return append(dst, ']')
}

func appendStrokeKey(dst []byte, client string, stroke int) []byte {
	dst = append(dst, client...)
	dst = append(dst, "-stroke-"...)
	dst = strconv.AppendInt(dst, int64(stroke), 10)
	return append(dst, "/PenStroke"...)
}

// appendBlockKey appends the key of block i: an id as long as the client's, and the component.
func appendBlockKey(dst []byte, i int) []byte {
	dst = append(dst, "5eed0000-0000-4000-8000-"...)
	return fmt.Appendf(dst, "%012d/Block", i)
}

// blockTimestamps are the timestamps of the fields that appendBlock writes.
const blockTimestamps = `{"_exists":1,"position":1,"size":1,"rotateZ":1,"rank":1,"color":1,"text":1,"opacity":1,"sentAt":1}`

func appendBlock(dst []byte, i int) []byte {
	return fmt.Appendf(dst, `{"_exists":true,"position":[%d.5,%d.25],"size":[160,120],"rotateZ":0,"rank":"a%06d","color":"#f6c945","text":"note %06d","opacity":1,"sentAt":0}`,
		i%1000*200, i/1000*160, i, i)
}

// WriteSnapshot writes a room of n blocks, the ones that Document and Large patch, as a snapshot in
// the published server's file format: put it at <data folder>/<RoomPrefix>-0.json and run Large
// with NoSeed. 100 000 blocks make 35 MB. It returns w's error.
func WriteSnapshot(w io.Writer, n int) error {
	if n < 1 || n > maxComponents {
		return fmt.Errorf("%w: components: %d: at most %d", ErrConfig, n, maxComponents)
	}
	var b []byte
	flush := func(limit int) error {
		if len(b) < limit {
			return nil
		}
		_, err := w.Write(b)
		b = b[:0]
		return err
	}
	section := func(open string, value func([]byte, int) []byte) error {
		b = append(b, open...)
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '"')
			b = appendBlockKey(b, i)
			b = append(b, `":`...)
			b = value(b, i)
			if err := flush(64 << 10); err != nil {
				return err
			}
		}
		b = append(b, '}')
		return nil
	}
	if err := section(`{"timestamp":1,"state":{`, appendBlock); err != nil {
		return err
	}
	if err := section(`,"timestamps":{`, func(b []byte, _ int) []byte {
		return append(b, blockTimestamps...)
	}); err != nil {
		return err
	}
	b = append(b, '}')
	return flush(0)
}
