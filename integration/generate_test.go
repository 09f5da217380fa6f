package integration

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A sequence is made in full before it is played, from its seed alone, so that it can be played
// again, and cut down, step by step. What only the play knows (the room's timestamp, who is
// connected) is filled in or skipped there, alike on both servers.

// Slots are the clients of a sequence. Slot 0 is there from the beginning to the end, to watch.
const (
	watcher = 0
	slots   = 5
)

type stepKind string

const (
	stepJoin    stepKind = "join"
	stepLeave   stepKind = "leave"
	stepSend    stepKind = "send"
	stepRefresh stepKind = "refresh"
)

// step is one action of one client.
type step struct {
	Kind stepKind
	Slot int

	// Join: the identity, and what is wrong with the request ("" for nothing).
	Client string
	Write  bool // may the token write; for a refresh, too
	Path   string
	Defect string // "room", "client", "token": missing. "forged": a token with a wrong signature

	// Send, and join: these frames go out at once, without waiting for anything. In them, @ts±N@
	// stands for the room's timestamp plus N.
	Frames []string
	Split  bool // the frames go out in fragments
	// Mismatches counts those of Frames that the servers answer with `version-mismatch`.
	Mismatches int
	// Presence tells that Frames may set presence.
	Presence bool

	// Leave: without a goodbye, or thrown out for text that is not UTF-8.
	Cut, Broken bool
}

func (s step) String() string {
	switch s.Kind {
	case stepJoin:
		return fmt.Sprintf("join slot=%d client=%q write=%v path=%s defect=%q frames=%q", s.Slot, s.Client, s.Write, s.Path, s.Defect, s.Frames)
	case stepLeave:
		return fmt.Sprintf("leave slot=%d cut=%v broken=%v", s.Slot, s.Cut, s.Broken)
	case stepRefresh:
		return fmt.Sprintf("refresh slot=%d write=%v defect=%q", s.Slot, s.Write, s.Defect)
	default:
		return fmt.Sprintf("send slot=%d split=%v frames=%q", s.Slot, s.Split, s.Frames)
	}
}

type generator struct{ *rand.Rand }

// generate makes the sequence of a seed.
func generate(seed uint64, steps int) []step {
	g := generator{rand.New(rand.NewPCG(seed, 0x77656674))}
	out := []step{
		{Kind: stepJoin, Slot: watcher, Client: "watcher", Write: true, Path: "/"},
		g.join(1 + g.IntN(slots-1)),
	}
	for len(out) < steps {
		slot := g.IntN(slots)
		var s step
		switch n := g.IntN(100); {
		case n < 12 && slot != watcher:
			s = g.join(slot)
		case n < 18 && slot != watcher:
			how := g.IntN(10)
			s = step{Kind: stepLeave, Slot: slot, Cut: how < 3, Broken: how == 9}
		case n < 23 && slot != watcher:
			s = step{Kind: stepRefresh, Slot: slot, Write: g.chance(60)}
			if g.chance(15) {
				s.Defect = "forged"
			}
		default:
			s = step{Kind: stepSend, Slot: slot, Split: g.chance(8)}
			for range 1 + g.IntN(5)/3 {
				g.addFrame(&s)
			}
		}
		out = append(out, s)
	}
	return out
}

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g generator, from []T) T { return from[g.IntN(len(from))] }

func (g generator) join(slot int) step {
	s := step{
		Kind:   stepJoin,
		Slot:   slot,
		Client: pick(g, []string{"ann", "bob", "twin", "zoë & co?=/#", "client-" + strconv.Itoa(slot), "client-" + strconv.Itoa(slot)}),
		Write:  g.chance(75),
		Path:   pick(g, []string{"/", "/", "/ws", "/a/b.c/"}),
	}
	if g.chance(10) {
		s.Defect = pick(g, []string{"room", "client", "token", "forged"})
	}
	for range g.IntN(3) {
		g.addFrame(&s)
	}
	return s
}

// addFrame gives the step one more frame to send.
func (g generator) addFrame(s *step) {
	switch n := g.IntN(100); {
	case n < 62:
		members := []string{`"type":"patch"`, g.spell("messageId") + ":" + g.str(pick(g, messageIDs))}
		if g.chance(4) {
			members = members[:1] // no messageId
		}
		s.Frames = append(s.Frames, g.object(append(members, g.lists(s)...)))
	case n < 86:
		version := pick(g, []string{"2", "2", "2", "2", "2", "2", "2", "2.0", "0.2e1", "1", "3", "-2", "2.5", ""})
		members := []string{`"type":"reconnect"`}
		if version != "" {
			members = append(members, `"protocolVersion":`+version)
		}
		switch version {
		case "2", "2.0", "0.2e1":
		default:
			s.Mismatches++
		}
		if since := pick(g, sinces); since != "" {
			members = append(members, `"lastTimestamp":`+since)
		}
		if g.chance(50) {
			members = append(members, g.lists(s)...)
		}
		s.Frames = append(s.Frames, g.object(members))
	default:
		s.Frames = append(s.Frames, g.junk())
	}
}

var (
	messageIDs = []string{"m1", "client-1-17", "", "ü€😀", "\xed\xa0\x80", "a\"b\\c\x00\n", strings.Repeat("long", 300)}
	// Whole numbers a little beyond the room's timestamp are left out: to Weft they say that the room has
	// forgotten something. TestBetterForgottenTimestampsAreNotGivenOutAgain has them.
	sinces = []string{
		"", "0", "0", "0", "@ts+0@", "@ts+0@", "@ts-1@", "@ts-3@", "@ts-3@", "@ts-10@", "@ts-0.5@", "@ts+0.5@",
		"@ts+1000.5@", "1e16", "-1", "-0", "-3.5e2", "1e300", "0.5", "9007199254740993", "1e-320",
	}
)

// lists makes the members that carry patches.
func (g generator) lists(s *step) []string {
	var members []string
	kind := g.IntN(100)
	if kind < 70 || kind >= 97 {
		members = append(members, g.spell("documentPatches")+":"+g.patches(documentKeys))
	}
	if kind >= 55 && kind < 97 {
		members = append(members, g.spell("ephemeralPatches")+":"+g.patches(presenceKeys))
		s.Presence = true
	}
	if kind >= 97 {
		members = append(members, g.spell("ephemeralPatches")+":[]")
	}
	return members
}

// patches makes a list of patches.
func (g generator) patches(keys []string) string {
	if g.chance(5) {
		return "[]"
	}
	list := make([]string, 1+g.IntN(6)/4)
	for i := range list {
		members := make([]string, g.IntN(9)/2)
		for j := range members {
			members[j] = g.str(pick(g, keys)) + ":" + g.component()
		}
		list[i] = g.object(members)
	}
	return "[" + strings.Join(list, g.space()+",") + "]"
}

// Few keys and fields, so that patches meet; strange ones, so that nothing leans on their form.
// Names that JavaScript's prototypes know are left out: what the published server does with them is
// an accident.
var (
	documentKeys = []string{
		"a/Block", "a/Block", "a/Block", "b/Block", "b/Block", "a/Pen", "a/Pen", "SINGLETON/camera",
		"", "a/b/c", "no slash", "é/ü", "\xed\xa0\x80/lone", "😀/face", "\x00", "\"quoted\\\"/x", "17", "\u2028/<&>",
	}
	presenceKeys = []string{"p/Cursor", "p/Cursor", "q/Cursor", "r/Cursor", "SINGLETON/me", "", "a/Block", "é/ü"}
	// A value with a "__buf" of 1 but no runs ends the published process, so nested names have no "__buf".
	nestedNames = []string{"x", "len", "runs", "_exists", "", "ü", "\xed\xb0\x80", "3"}
	fields      = []string{"x", "x", "y", "pts", "pts", "pts", "buf", "_version", "", "ü", "\xed\xb0\x80", "3", "__buf", "_Exists"}
)

func (g generator) component() string {
	var members []string
	exists := g.spell("_exists") + ":"
	switch n := g.IntN(100); {
	case n < 34:
		members = append(members, exists+"true")
	case n < 48:
		members = append(members, exists+"false")
	case n < 56:
		members = append(members, exists+g.value(1))
	}
	for range g.IntN(7) / 2 {
		v := g.value(3)
		if g.chance(35) {
			v = g.delta()
		} else if g.chance(20) {
			v = g.numbers(g.IntN(12))
		}
		members = append(members, g.str(pick(g, fields))+":"+v)
	}
	return g.object(members)
}

// delta makes a buffer delta, or rarely something that only looks like one.
func (g generator) delta() string {
	n := g.IntN(20)
	runs := make([]string, g.IntN(4))
	for i := range runs {
		offset := strconv.Itoa(g.IntN(n+7) - 3)
		if g.chance(8) {
			offset = pick(g, []string{"0.5", "-0", "1e18", "-1e9", "2e0", "1e-3"})
		}
		more := ""
		if g.chance(4) {
			more = "," + g.value(1)
		}
		runs[i] = "[" + offset + "," + g.numbers(g.IntN(6)) + more + "]"
	}
	mark := pick(g, []string{"1", "1", "1", "1", "1", "1", "1.0", "10e-1"})
	length := strconv.Itoa(n)
	switch g.IntN(12) {
	case 0:
		length += ".0"
	case 1:
		length += "e0"
	}
	if g.chance(6) {
		mark = pick(g, []string{"2", "true", `"1"`, "null"})
	}
	members := []string{
		g.spell("__buf") + ":" + mark,
		g.spell("len") + ":" + length,
		g.spell("runs") + ":[" + strings.Join(runs, ",") + "]",
	}
	if g.chance(4) {
		members = append(members, `"more":`+g.value(1))
	}
	return g.object(members)
}

func (g generator) numbers(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(g.IntN(1000))
		if g.chance(20) {
			list[i] = g.value(1)
		}
	}
	return "[" + strings.Join(list, ",") + "]"
}

// Too big numbers (1e400) are left out: JavaScript reads them as Infinity and writes that as null;
// no JavaScript client can send one.
var plainValues = []string{
	"0", "-0", "1", "1.0", "-1.5e-7", "1E+2", "123456789012345678901234567890", "0.1", "5e-324", "1e-400",
	"1.7976931348623157e308", "9007199254740993", "1e21", "-123456789.123456789",
	"true", "false", "null", "{}", "[]", "[[[]]]", `{"a":{"b":[{}]}}`,
}

var plainStrings = []string{"", "text", "ünï😀", "\xed\xa0\xbd", "\xed\xb8\x80\xed\xa0\xbd", "\u2028\u2029", "</script>&", "\x00\x01\x7f", "\\\"/\b\f\n\r\t"}

func (g generator) value(depth int) string {
	switch n := g.IntN(100); {
	case n < 60:
		return pick(g, plainValues)
	case n < 80 || depth == 0:
		if g.chance(3) {
			return g.str(strings.Repeat("long ü ", 1+g.IntN(2000)))
		}
		return g.str(pick(g, plainStrings))
	case n < 90:
		list := make([]string, g.IntN(4))
		for i := range list {
			list[i] = g.space() + g.value(depth-1)
		}
		return "[" + strings.Join(list, ",") + "]"
	default:
		members := make([]string, g.IntN(4))
		for i := range members {
			members[i] = g.str(pick(g, nestedNames)) + ":" + g.value(depth-1)
		}
		return g.object(members)
	}
}

// junk makes a frame that both servers ignore.
func (g generator) junk() string {
	return pick(g, []string{
		``, ` `, `{`, `}`, `{"type":"patch","messageId":"x","documentPatches":[{}]`,
		`{"type":"patch","messageId":"x","documentPatches":[{}]}}`,
		`{"type":"patch","messageId":"x","documentPatches":[{}],}`,
		`{'type':'patch','messageId':'x','documentPatches':[{}]}`,
		`{"type":"patch","messageId":"x","documentPatches":[{"a/Block":{"x":01}}]}`,
		`{"type":"patch","messageId":"x","documentPatches":[{"a/Block":{"x":.5}}]}`,
		`{"type":"patch","messageId":"x","documentPatches":[{"a/Block":{"x":NaN}}]}`,
		"{\"type\":\"patch\",\"messageId\":\"tab\there\",\"documentPatches\":[{}]}",
		`{"type":"patch","messageId":"\x","documentPatches":[{}]}`,
		`{"type":"patch","messageId":"\ud8","documentPatches":[{}]}`,
		"\ufeff" + `{"type":"patch","messageId":"x","documentPatches":[{}]}`,
		`{"type":"patch","messageId":"x","documentPatches":[{}]} {}`,
		`{"type":"patch","messageId":"x"}`, `{"type":"patch","messageId":"x","documentPatches":[],"ephemeralPatches":[]}`,
		`{"Type":"patch","messageId":"x","documentPatches":[{}]}`,
		`{"type":"PATCH","messageId":"x","documentPatches":[{}]}`,
		`{"type":"patch","messageId":"x","documentpatches":[{}]}`,
		`{"type":"patch ","messageId":"x","documentPatches":[{}]}`,
		`{"type":"ack","messageId":"x","timestamp":1}`, `{"type":"clientCount","count":5}`, `{"type":"synced"}`,
		`{"type":""}`, `{}`, `[]`, `[{"type":"patch"}]`, `true`, `17`, `-0.0`, `"type"`, `{"messageId":"x","documentPatches":[{}]}`,
		`nul`, `undefined`, `hello`, `{"type":"patch" "messageId":"x"}`, `{"type":"unknown","documentPatches":7}`,
	})
}

// object writes members in any order, sometimes with a name twice: the last counts.
func (g generator) object(members []string) string {
	members = append([]string(nil), members...)
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	if len(members) > 0 && g.chance(4) {
		members = append(members, pick(g, members))
	}
	for i := range members {
		members[i] = g.space() + members[i] + g.space()
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g generator) space() string {
	if g.chance(95) {
		return ""
	}
	return pick(g, []string{" ", "\n", "\t\r\n  "})
}

// spell writes a plain name as JSON, now and then with escapes in it.
func (g generator) spell(name string) string {
	if g.chance(95) {
		return `"` + name + `"`
	}
	return g.str(name)
}

// str writes a string as JSON in one of its many spellings. Bytes that are a lone surrogate (see
// parseJS) become its escape.
func (g generator) str(s string) string {
	escape := 0
	if g.chance(15) {
		escape = 50
	}
	var out strings.Builder
	out.WriteByte('"')
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			unit := rune(s[0]&0x0f)<<12 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f)
			out.WriteString(g.hex(unit))
			s = s[3:]
			continue
		}
		s = s[size:]
		switch {
		case r == '/' && g.chance(escape):
			out.WriteString(`\/`)
		case r == '\n' && g.chance(50):
			out.WriteString(`\n`)
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < 0x20 || g.chance(escape):
			if r > 0xffff {
				out.WriteString(g.hex(0xd800 + (r-0x10000)>>10))
				r = 0xdc00 + (r-0x10000)&0x3ff
			}
			out.WriteString(g.hex(r))
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

func (g generator) hex(unit rune) string {
	if g.chance(50) {
		return fmt.Sprintf(`\u%04X`, unit)
	}
	return fmt.Sprintf(`\u%04x`, unit)
}
