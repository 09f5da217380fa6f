package protocol

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Canonical returns the one spelling that Weft uses for a JSON string, given
// any valid spelling of it, quotes included: two strings are the same to a
// JavaScript client if and only if their canonical spellings are equal bytes.
// A string without escapes is its own canonical spelling and is returned as it
// is; otherwise everything that may stand unescaped does. Lone surrogates,
// which JavaScript knows and UTF-8 does not, keep their escape.
func Canonical(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted
	}
	out := make([]byte, 0, len(quoted))
	out = append(out, '"')
	for s := quoted[1 : len(quoted)-1]; len(s) > 0; {
		n := bytes.IndexByte(s, '\\')
		if n != 0 {
			if n < 0 {
				n = len(s)
			}
			out, s = append(out, s[:n]...), s[n:]
			continue
		}
		if s[1] != 'u' {
			out, s = appendChar(out, rune(unescape(s[1]))), s[2:]
			continue
		}
		r := hex4(s[2:])
		s = s[6:]
		if utf16.IsSurrogate(r) && len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(s[2:])); pair != utf8.RuneError {
				r, s = pair, s[6:]
			}
		}
		out = appendChar(out, r)
	}
	return append(out, '"')
}

// AppendQuoted appends s as a canonical JSON string. Bytes that are not UTF-8
// become U+FFFD.
func AppendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		b = appendChar(b, r)
	}
	return append(b, '"')
}

// appendChar appends one character of a JSON string, escaped only if it must be.
func appendChar(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r < ' ' || utf16.IsSurrogate(r):
		return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
	default:
		return utf8.AppendRune(b, r)
	}
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default: // " \ /
		return c
	}
}

func hex4(s []byte) (r rune) {
	for _, c := range s[:4] {
		switch {
		case c <= '9':
			c -= '0'
		default:
			c = c&^0x20 - 'A' + 10
		}
		r = r<<4 | rune(c)
	}
	return r
}
