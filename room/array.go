package room

import (
	"bytes"

	"github.com/weftsync/weft/room/protocol"
)

// array holds a buffer field: a JSON array to which deltas are applied. Its
// elements are kept as they came, as text, in chunks of chunkLen, so that a
// delta costs what it touches: appending ten points to a stroke of four
// thousand rewrites one chunk.
//
// Like everything that a [Snapshot] shares with the live document, an array
// and its chunks are changed in place only by the epoch that made them.
type array struct {
	epoch  uint64
	chunks []*chunk
	n      int // elements
	size   int // bytes of text, commas between chunks included
}

const chunkLen = 128

// spareText is how many bytes a chunk may keep beyond four times its text.
const spareText = 4096

type chunk struct {
	epoch uint64
	text  []byte   // the elements, with commas between them
	ends  []uint32 // where in text each element ends
}

// fill are the chunks that hold one element over and over; every array shares
// them, since no epoch owns them.
var (
	zeros = repeated("0")
	nulls = repeated("null")
)

func repeated(element string) *chunk {
	c := &chunk{}
	for range chunkLen {
		c.push([]byte(element))
	}
	return c
}

func (c *chunk) push(element []byte) {
	if len(c.ends) > 0 {
		c.text = append(c.text, ',')
	}
	c.text = append(c.text, element...)
	c.ends = append(c.ends, uint32(len(c.text)))
}

// start is where element i begins.
func (c *chunk) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return c.ends[i-1] + 1
}

// head is a new chunk of c's first n elements.
func (c *chunk) head(n int, epoch uint64) *chunk {
	h := &chunk{epoch: epoch}
	if n > 0 {
		h.text = append(make([]byte, 0, int(c.ends[n-1])+64), c.text[:c.ends[n-1]]...)
		h.ends = append(make([]uint32, 0, n+8), c.ends[:n]...)
	}
	return h
}

// newArray makes an array of the elements.
func newArray(elements [][]byte, epoch uint64) *array {
	a := &array{epoch: epoch}
	for _, e := range elements {
		a.push(e)
	}
	a.measure()
	return a
}

func (a *array) push(element []byte) {
	if a.n%chunkLen == 0 {
		a.chunks = append(a.chunks, &chunk{epoch: a.epoch})
	}
	a.chunks[len(a.chunks)-1].push(element)
	a.n++
}

func (a *array) measure() {
	a.size = max(0, len(a.chunks)-1)
	for _, c := range a.chunks {
		a.size += len(c.text)
	}
}

// apply returns the array after the delta: a itself if epoch owns it.
// Elements beyond the old end become copies of filler's.
func (a *array) apply(d *protocol.Delta, filler *chunk, epoch uint64) *array {
	if a.epoch != epoch {
		a = &array{epoch: epoch, chunks: append(make([]*chunk, 0, len(a.chunks)+1), a.chunks...), n: a.n, size: a.size}
	}
	a.resize(d.Len, filler)
	for i := range d.Runs {
		a.overwrite(d.Runs[i].Offset, d.Runs[i].Values)
	}
	return a
}

// writable returns chunk i, first cloned if an older epoch made it.
func (a *array) writable(i int) *chunk {
	c := a.chunks[i]
	if c.epoch != a.epoch {
		c = c.head(len(c.ends), a.epoch)
		a.chunks[i] = c
	}
	return c
}

// resize cuts the array to n elements, or fills it up to n.
func (a *array) resize(n int, filler *chunk) {
	if n < a.n {
		keep := (n + chunkLen - 1) / chunkLen
		for i := keep; i < len(a.chunks); i++ {
			a.size -= len(a.chunks[i].text) + 1
			a.chunks[i] = nil
		}
		a.chunks = a.chunks[:keep]
		if rest := n % chunkLen; rest > 0 {
			old := a.chunks[keep-1]
			a.chunks[keep-1] = old.head(rest, a.epoch)
			a.size -= len(old.text) - len(a.chunks[keep-1].text)
		}
		if n == 0 {
			a.size = 0
		}
		a.n = n
	}
	for a.n < n {
		if a.n%chunkLen == 0 {
			if a.n > 0 {
				a.size++
			}
			if n-a.n >= chunkLen {
				a.chunks = append(a.chunks, filler)
				a.size += len(filler.text)
				a.n += chunkLen
				continue
			}
			a.chunks = append(a.chunks, &chunk{epoch: a.epoch})
		}
		last := a.writable(len(a.chunks) - 1)
		before := len(last.text)
		for a.n < n && len(last.ends) < chunkLen {
			last.push(filler.text[:filler.ends[0]])
			a.n++
		}
		a.size += len(last.text) - before
	}
}

// overwrite replaces the elements from offset on; values that fall outside
// the array are skipped.
func (a *array) overwrite(offset int64, values [][]byte) {
	if offset < 0 {
		skip := min(-offset, int64(len(values)))
		offset, values = offset+skip, values[skip:]
	}
	if offset < 0 || offset >= int64(a.n) {
		return
	}
	values = values[:min(len(values), a.n-int(offset))]
	for at := int(offset); len(values) > 0; {
		i := at % chunkLen
		n := min(len(values), len(a.chunks[at/chunkLen].ends)-i)
		c := a.writable(at / chunkLen)
		before := len(c.text)
		c.replace(i, values[:n])
		a.size += len(c.text) - before
		at, values = at+n, values[n:]
	}
}

// replace puts values in place of the elements from i on.
func (c *chunk) replace(i int, values [][]byte) {
	end := i + len(values)
	start, tail := c.start(i), append([]byte(nil), c.text[c.ends[end-1]:]...)
	oldTail := c.ends[end-1]
	c.text = c.text[:start]
	for k, v := range values {
		if k > 0 {
			c.text = append(c.text, ',')
		}
		c.text = append(c.text, v...)
		c.ends[i+k] = uint32(len(c.text))
	}
	moved := uint32(len(c.text)) - oldTail
	c.text = append(c.text, tail...)
	for k := end; k < len(c.ends); k++ {
		c.ends[k] += moved
	}
	if cap(c.text) > 4*len(c.text)+spareText { // it held something long once
		c.text = bytes.Clone(c.text)
	}
}

// appendJSON appends the array as JSON.
func (a *array) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, c := range a.chunks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, c.text...)
	}
	return append(b, ']')
}
