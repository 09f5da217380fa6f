package cluster

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// ID is the place of an entry in a partition's log: the id of a Redis stream
// entry, milliseconds and a number within them. The zero ID comes before all
// entries.
type ID struct{ MS, Seq uint64 }

// Compare orders ids as the log orders its entries.
func (a ID) Compare(b ID) int {
	return cmp.Or(cmp.Compare(a.MS, b.MS), cmp.Compare(a.Seq, b.Seq))
}

// After reports whether a comes after b.
func (a ID) After(b ID) bool { return a.Compare(b) > 0 }

// next is the first id after a.
func (a ID) next() ID {
	if a.Seq++; a.Seq == 0 {
		a.MS++
	}
	return a
}

// String is the id as Redis writes it.
func (a ID) String() string {
	return strconv.FormatUint(a.MS, 10) + "-" + strconv.FormatUint(a.Seq, 10)
}

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	ms, seq, ok := strings.Cut(s, "-")
	if ok {
		m, err1 := strconv.ParseUint(ms, 10, 64)
		n, err2 := strconv.ParseUint(seq, 10, 64)
		if err1 == nil && err2 == nil {
			return ID{m, n}, nil
		}
	}
	return ID{}, fmt.Errorf("%q is no stream id", s)
}
