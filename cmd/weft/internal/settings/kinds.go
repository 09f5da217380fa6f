package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// A Kind is how text becomes a value.
type Kind struct {
	metavar  string // what stands for the value in the help
	isSwitch bool   // needs no value on the command line
	isList   bool   // may be a list in YAML
	plain    bool   // is no text for YAML, which needs no quotes
	// set takes a value. Its error completes the sentence "the value …", and
	// does not quote the value.
	set func(text string) error
}

// Text is any text, of which metavar says what it is.
func Text(p *string, metavar string) Kind {
	return Kind{metavar: metavar, set: func(text string) error { *p = text; return nil }}
}

// Filled is a text that is not empty.
func Filled(p *string, metavar string) Kind {
	return Parsed(p, metavar, func(text string) (string, error) {
		if text == "" {
			return "", errors.New("must not be empty")
		}
		return text, nil
	})
}

// Parsed is what parse makes of the text.
func Parsed[T any](p *T, metavar string, parse func(string) (T, error)) Kind {
	return Kind{metavar: metavar, set: func(text string) (err error) {
		v, err := parse(text)
		if err == nil {
			*p = v
		}
		return err
	}}
}

// Address is an address to listen at.
func Address(p *string) Kind {
	return Parsed(p, "HOST:PORT", func(text string) (string, error) {
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return "", errors.New("is not an address, such as :8080 or 127.0.0.1:8080")
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", errors.New("has no port between 0 and 65535")
		}
		return text, nil
	})
}

// AddressOrNone is an address to listen at, or nothing.
func AddressOrNone(p *string) Kind {
	k := Address(p)
	set := k.set
	k.set = func(text string) error {
		if text == "" {
			*p = ""
			return nil
		}
		return set(text)
	}
	return k
}

// Choice is one of several texts.
func Choice(p *string, choices ...string) Kind {
	return Parsed(p, strings.Join(choices, "|"), func(text string) (string, error) {
		if !slices.Contains(choices, text) {
			return "", fmt.Errorf("is not one of %s", strings.Join(choices, ", "))
		}
		return text, nil
	})
}

// Switch is true when its flag stands alone: --dev.
func Switch(p *bool) Kind {
	k := Parsed(p, "", func(text string) (bool, error) {
		v, err := strconv.ParseBool(text)
		if err != nil {
			return false, errors.New("is not true or false")
		}
		return v, nil
	})
	k.isSwitch, k.plain = true, true
	return k
}

// Duration is a time of at least least.
func Duration(p *time.Duration, least time.Duration) Kind {
	return Parsed(p, "DURATION", func(text string) (time.Duration, error) {
		v, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New("is not a duration, such as 500ms, 2s or 1m30s")
		}
		if v < least || v > maxDuration {
			return 0, fmt.Errorf("is not between %s and %s", ShortDuration(least), ShortDuration(maxDuration))
		}
		return v, nil
	})
}

// shortest is the least that a duration can be set to where none at all makes
// no sense.
const shortest = time.Millisecond

// maxDuration bounds every duration: longer ones are slips, and overflow sums.
const maxDuration = 10_000 * time.Hour

// ShortDuration writes 1m rather than 1m0s.
func ShortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Size is a number of bytes, least or more.
func Size(p *int, least int) Kind {
	return Parsed(p, "BYTES", func(text string) (int, error) {
		v, err := humanize.ParseBytes(text)
		if err != nil || strings.Contains(text, ",") { // the library drops commas: 1,5MB would be 15 MB
			return 0, errors.New("is not a number of bytes, such as 8388608, 8MiB or 32MB")
		}
		if v < uint64(least) || v > math.MaxInt/2 {
			return 0, fmt.Errorf("is not between %s and what this machine can address", shortSize(least))
		}
		return int(v), nil
	})
}

// shortSize writes 8MiB, as one would set it.
func shortSize(n int) string {
	return strings.NewReplacer(" ", "", ".0", "").Replace(humanize.IBytes(uint64(n)))
}

// Count is a whole number, least or more.
func Count(p *int, least int) Kind {
	k := Parsed(p, "N", func(text string) (int, error) {
		v, err := strconv.ParseInt(text, 10, 0)
		if err != nil {
			return 0, errors.New("is not a whole number")
		}
		if v < int64(least) || v > math.MaxInt32 {
			return 0, fmt.Errorf("is not between %d and %d", least, math.MaxInt32)
		}
		return int(v), nil
	})
	k.plain = true
	return k
}

// Number is a number above 0.
func Number(p *float64) Kind {
	return Parsed(p, "NUMBER", func(text string) (float64, error) {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return 0, errors.New("is not a number above 0")
		}
		return v, nil
	})
}

// JSON is a JSON value, nil if there is none.
func JSON(p *json.RawMessage) Kind {
	return Parsed(p, "JSON", func(text string) (json.RawMessage, error) {
		if text == "" {
			return nil, nil
		}
		if !json.Valid([]byte(text)) {
			return nil, errors.New("is not JSON")
		}
		return json.RawMessage(text), nil
	})
}

// List takes texts between commas; blanks around them and empty ones do not
// count.
func List(p *[]string, metavar string) Kind {
	k := Parsed(p, metavar, func(text string) ([]string, error) {
		var items []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		return items, nil
	})
	k.isList = true
	return k
}
