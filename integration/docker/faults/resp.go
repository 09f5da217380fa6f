package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxCommand bounds one command to Redis; a proxy reads it as a whole.
const maxCommand = 64 << 20

// readCommand reads one command of the Redis protocol: its words, and the bytes as they came.
func readCommand(r *bufio.Reader) (words [][]byte, raw []byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, nil, err
	}
	raw = append(raw, line...)
	if line[0] != '*' {
		return bytes.Fields(line), raw, nil
	}
	n, err := number(line)
	if err != nil {
		return nil, nil, err
	}
	for range n {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, nil, err
		}
		size, err := number(line)
		if err != nil {
			return nil, nil, err
		}
		start := len(raw) + len(line)
		if line[0] != '$' || size > maxCommand || start+size > maxCommand {
			return nil, nil, errors.New("not a command of the Redis protocol")
		}
		raw = append(append(raw, line...), make([]byte, size+2)...)
		if _, err := io.ReadFull(r, raw[start:]); err != nil {
			return nil, nil, err
		}
		words = append(words, raw[start:start+size:start+size])
	}
	return words, raw, nil
}

func number(line []byte) (int, error) {
	n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("not a length in the Redis protocol: %q", line)
	}
	return n, nil
}

// keysOfCommand are the keys of a script or of one of the commands on streams.
func keysOfCommand(words [][]byte) []string {
	word := func(i int) string {
		if i < len(words) {
			return string(words[i])
		}
		return ""
	}
	var keys []string
	switch strings.ToUpper(word(0)) {
	case "EVAL", "EVALSHA", "FCALL":
		n, _ := strconv.Atoi(word(2)) // none if it is no number, as Redis will say
		for i := 3; i < min(3+n, len(words)); i++ {
			keys = append(keys, word(i))
		}
	case "XADD":
		keys = append(keys, word(1))
	case "XREAD":
		for i := range words {
			if strings.EqualFold(word(i), "STREAMS") {
				rest := words[i+1:]
				for _, key := range rest[:len(rest)/2] {
					keys = append(keys, string(key))
				}
				break
			}
		}
	}
	return keys
}

// IsAppend says whether a command adds to a partition's log: it is XADD, or the script whose first key is
// the log. The scripts of owners have other keys first.
func IsAppend(words [][]byte) bool {
	keys := keysOfCommand(words)
	return len(keys) > 0 && strings.HasSuffix(keys[0], ":log") && !IsLogRead(words)
}

// IsLogRead says whether a command waits for what is new in partitions' logs.
func IsLogRead(words [][]byte) bool {
	return len(words) > 0 && strings.EqualFold(string(words[0]), "XREAD") &&
		slices.ContainsFunc(keysOfCommand(words), func(key string) bool { return strings.HasSuffix(key, ":log") })
}
