package store

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	extension = ".json"
	// longestName is what file systems take, in bytes.
	longestName = 255
	// marker begins what no escape begins: after a % there are otherwise two
	// hexadecimal digits, since a % in an id is escaped itself.
	marker = "%~"
)

// fileName is the name of a room's file: one path element that begins with no
// dot. Different ids have different names.
func fileName(id string) string {
	if id == "" {
		return marker + extension
	}
	stem := escape(id)
	if len(stem)+len(extension) > longestName {
		sum := sha256.Sum256([]byte(id))
		suffix := marker + hex.EncodeToString(sum[:])
		stem = cut(stem, longestName-len(suffix)-len(extension)) + suffix
	}
	return stem + extension
}

// escape writes what may mean something to a file system, or to a person
// looking at a listing, as % and two digits for each byte. Since the extension
// follows, a dot or a space at the end means nothing.
func escape(id string) string {
	device := isDevice(id)
	var b strings.Builder
	for i := 0; i < len(id); {
		r, n := utf8.DecodeRuneInString(id[i:])
		switch {
		case i == 0 && (r == '.' || device),
			r == utf8.RuneError && n == 1,
			unicode.IsControl(r),
			strings.ContainsRune(`%/\:*?"<>|`, r):
			for _, c := range []byte(id[i : i+n]) {
				const digits = "0123456789ABCDEF"
				b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			}
		default:
			b.WriteString(id[i : i+n])
		}
		i += n
	}
	return b.String()
}

// cut returns the longest beginning of an escaped text that has at most most
// bytes and splits neither an escape nor a character.
func cut(stem string, most int) string {
	end := most
	for !utf8.RuneStart(stem[end]) {
		end--
	}
	if at := strings.LastIndexByte(stem[:end], '%'); at >= 0 && at > end-len("%XX") {
		end = at
	}
	return stem[:end]
}

// isDevice reports whether Windows takes a file of that name for a device,
// which it does whatever the extension.
func isDevice(id string) bool {
	base, _, _ := strings.Cut(id, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	port, ok := strings.CutPrefix(base, "COM")
	if !ok {
		port, ok = strings.CutPrefix(base, "LPT")
	}
	return ok && utf8.RuneCountInString(port) == 1 && strings.ContainsAny(port, "0123456789¹²³")
}

// publishedName is the name under which the published server kept a room, if
// that differs from fileName, lies in the folder itself, and is not the name of
// another room's file; otherwise it is empty.
func publishedName(id string) string {
	name := id + extension
	switch {
	case name == fileName(id), len(name) > longestName, strings.ContainsAny(id, "/\x00"), mayBeEscaped(id):
		return ""
	case filepath.Separator == '\\': // there : and \ would have meant another place
		return ""
	}
	return name
}

// mayBeEscaped reports whether a text that contains a % might come from
// fileName, or on some file systems lead to what does.
func mayBeEscaped(stem string) bool {
	isDigit := func(c byte) bool { return strings.IndexByte("0123456789ABCDEFabcdef", c) >= 0 }
	parts := strings.Split(stem, "%")
	for _, p := range parts[1:] {
		if !strings.HasPrefix(p, marker[1:]) && !(len(p) >= 2 && isDigit(p[0]) && isDigit(p[1])) {
			return false
		}
	}
	return len(parts) > 1
}
