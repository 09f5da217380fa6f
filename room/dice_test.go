package room

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// dice decides what happens in a test: from bytes, so that a fuzzer can hold
// them, or from a seed. Without bytes left it always says 0.
type dice struct{ b []byte }

func seeded(seed uint64, n int) *dice {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return &dice{b}
}

// roll is a number from 0 to n-1, n at most 256.
func (d *dice) roll(n int) int {
	if len(d.b) == 0 {
		return 0
	}
	v := int(d.b[0]) % n
	d.b = d.b[1:]
	return v
}

func (d *dice) over() bool { return len(d.b) == 0 }

func (d *dice) take(n int) []byte {
	n = min(n, len(d.b))
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func pick[T any](d *dice, of ...T) T { return of[d.roll(len(of))] }

func (d *dice) scalar() string {
	return pick(d, `0`, `-0`, `1`, `1.50`, `-12.25e2`, `12345678901234567890`, `1e-7`, `true`, `false`, `null`,
		`""`, `"a"`, `"é😀x"`, `"\u0041\n\"\\"`, `"\ud83d\ude00"`)
}

func (d *dice) value() string {
	switch d.roll(8) {
	case 0:
		return "[" + d.scalar() + " , " + d.scalar() + "]"
	case 1:
		return `{"x": ` + d.scalar() + `,"y":[{}]}`
	case 2:
		return pick(d, `[]`, `{}`, `[[1],[2]]`, `{"__buf":2,"len":3,"runs":[]}`, `{"__buf":"1"}`)
	case 3, 4, 5:
		return d.delta()
	default:
		return d.scalar()
	}
}

// delta makes buffer deltas with lengths about the borders of chunks.
func (d *dice) delta() string {
	n := pick(d, 0, 1, 3, 10, 127, 128, 129, 130, 255, 256, 257, 300)
	runs := []string{}
	for range d.roll(4) {
		offset := pick(d, -300, -2, -1, 0, 0, 1, 2, 120, 126, 127, 128, 129, 250, n-1, n, n+1, 1<<30)
		values := make([]string, d.roll(pick(d, 4, 4, 140)))
		for i := range values {
			if i > 3 { // enough was rolled for
				values[i] = values[i-4]
				continue
			}
			values[i] = pick(d, `7`, `1.25`, `-3`, `"s"`, `null`, `[1]`)
		}
		at := strconv.Itoa(offset)
		if d.roll(12) == 0 {
			at += pick(d, ".5", ".0", "e0")
		}
		runs = append(runs, "["+at+",["+strings.Join(values, ",")+"]]")
	}
	return fmt.Sprintf(`{"__buf":%s,"len":%d,"runs":[%s]}`, pick(d, "1", "1.0"), n, strings.Join(runs, ","))
}

func (d *dice) component(existsOften bool) string {
	var fields []string
	exists := d.roll(8)
	if existsOften {
		exists = min(exists, 4)
	}
	switch {
	case exists < 3:
		fields = append(fields, `"_exists":true`)
	case exists == 3:
		fields = append(fields, `"_exists":false`)
	case exists == 4 && !existsOften:
		fields = append(fields, `"_exists":`+pick(d, `null`, `0`, `"false"`, `{"__buf":1,"len":2,"runs":[]}`))
	}
	for range d.roll(pick(d, 2, 4, 4, 40)) {
		fields = append(fields, d.field()+":"+d.value())
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func (d *dice) field() string {
	if d.roll(3) == 0 {
		return `"f` + strconv.Itoa(d.roll(60)) + `"`
	}
	return pick(d, `"x"`, `"points"`, `"points"`, `"\u0078"`, `""`, `"_version"`, `"é"`)
}

func (d *dice) key() string {
	if d.roll(8) == 0 {
		return `"k` + strconv.Itoa(d.roll(256)) + strconv.Itoa(d.roll(3)) + `/C"`
	}
	return pick(d, `"a/B"`, `"a/B"`, `"\u0061/B"`, `"c/D"`, `"SINGLETON/s"`, `""`, `"é\n"`)
}

func (d *dice) patches(existsOften bool) string {
	patches := make([]string, d.roll(4))
	for i := range patches {
		parts := make([]string, d.roll(4))
		for j := range parts {
			parts[j] = d.key() + ":" + d.component(existsOften)
		}
		patches[i] = "{" + strings.Join(parts, ",") + "}"
	}
	return "[" + strings.Join(patches, ",") + "]"
}

// message makes the text of a patch or a reconnect.
func (d *dice) message() string {
	var m []string
	if d.roll(4) == 0 {
		m = append(m, `"type":"reconnect"`)
		if d.roll(8) > 0 {
			m = append(m, `"protocolVersion":2`)
		} else {
			m = append(m, `"protocolVersion":`+pick(d, "1", "3", "2.5", "2.0"))
		}
		if d.roll(10) > 0 {
			m = append(m, `"lastTimestamp":`+pick(d, "0", "0", "-1", "1", "2", "3", "5", "8", "13", "2.5", "1e3", "-1e999", "1e999"))
		}
	} else {
		m = append(m, `"type":"patch"`)
		if d.roll(10) > 0 {
			m = append(m, `"messageId":"m\u00e9`+strconv.Itoa(d.roll(100))+`"`)
		}
	}
	if d.roll(4) > 0 {
		m = append(m, `"documentPatches":`+d.patches(d.roll(2) == 0))
	}
	if d.roll(3) == 0 {
		m = append(m, `"ephemeralPatches":`+d.patches(true))
	}
	if d.roll(10) == 0 {
		m = append(m, `"other":{"a":[null]}`)
	}
	return "{" + strings.Join(m, " ,") + "}"
}
