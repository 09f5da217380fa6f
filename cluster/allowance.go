package cluster

import "github.com/redis/go-redis/v9"

// allowance is how many entries a read of streams may ask for, of all of them
// together, so that a reply has about allowedBytes however large the entries are,
// and what is small does not wait for long behind what is large. It learns from
// what came, and asks for less after a read that failed.
//
// The zero value allows as much as there can be.
type allowance struct {
	less int // than maxAllowed
}

const (
	maxAllowed   = 256
	allowedBytes = 1 << 20
)

// entries is how many may be read, at least one.
func (a *allowance) entries() int { return maxAllowed - a.less }

// each is how many entries to ask for of each stream.
func (a *allowance) each(streams int) int { return max(1, a.entries()/max(1, streams)) }

func (a *allowance) set(entries int) { a.less = maxAllowed - max(1, min(entries, maxAllowed)) }

// took tells what came.
func (a *allowance) took(found []redis.XStream) {
	entries, size := 0, 0
	for _, stream := range found {
		entries += len(stream.Messages)
		for _, m := range stream.Messages {
			size += sizeOf(m)
		}
	}
	switch {
	case size > allowedBytes:
		a.set(entries * allowedBytes / size)
	case size <= allowedBytes/2:
		a.set(2 * a.entries())
	}
}

// failed tells that a read did not come to its end.
func (a *allowance) failed() { a.set(a.entries() / 2) }

// sizeOf is how many bytes an entry's data has.
func sizeOf(m redis.XMessage) int {
	data, _ := m.Values["b"].(string)
	return len(data)
}
