package store

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestFileName(t *testing.T) {
	x := strings.Repeat("x", 250)
	for id, want := range map[string]string{
		// As the published server has them.
		"room-1": "room-1.json", "My Room": "My Room.json", "日本": "日本.json", "😀": "😀.json", "a.b": "a.b.json",
		"a_b~c+d=e,f;g@h!(i)[j]{k}&'$#^`": "a_b~c+d=e,f;g@h!(i)[j]{k}&'$#^`.json", "-rf": "-rf.json",
		"room.json": "room.json.json", "room.": "room..json", "room ": "room .json", " ": " .json", "\ufffd": "\ufffd.json",
		"console": "console.json", "com": "com.json", "com10": "com10.json", "lptx": "lptx.json", "nul-": "nul-.json", x: x + ".json",
		// Out of the folder, or into another.
		"../x": "%2E.%2Fx.json", "..": "%2E..json", ".": "%2E.json", "a/b": "a%2Fb.json", "/": "%2F.json", `..\x`: `%2E.%5Cx.json`,
		"a:b": "a%3Ab.json", "C:/x": "C%3A%2Fx.json",
		// What no name may contain somewhere.
		"": "%~.json", "\x00": "%00.json", "a\nb": "a%0Ab.json", "\x7f": "%7F.json", "\u0085": "%C2%85.json", `*?"<>|`: "%2A%3F%22%3C%3E%7C.json",
		"\xff": "%FF.json", "é\xc3": "é%C3.json",
		// Like an escape, or like a file of ours.
		"%": "%25.json", "100%": "100%25.json", "%2F": "%252F.json", "%~": "%25~.json", ".weft.lock": "%2Eweft.lock.json", ".weft-1.tmp": "%2Eweft-1.tmp.json",
		// Windows devices.
		"con": "%63on.json", "NUL": "%4EUL.json", "Aux.x": "%41ux.x.json", "prn  ": "%70rn  .json", "com1": "%63om1.json", "LPT9.": "%4CPT9..json", "com²": "%63om².json", "CONIN$": "%43ONIN$.json",
	} {
		if got := fileName(id); got != want {
			t.Errorf("%q: %s, want %s", id, got, want)
		}
	}
}

func TestFileNameOfLongID(t *testing.T) {
	x := strings.Repeat("x", 250)
	for id, want := range map[string]string{ // up to the hash
		x + "x":                        x[:184],
		x + "y":                        x[:184],
		strings.Repeat("x", 1<<20):     x[:184],
		strings.Repeat("é", 126):       strings.Repeat("é", 92),
		"x" + strings.Repeat("é", 126): "x" + strings.Repeat("é", 91),
		strings.Repeat("/", 84):        strings.Repeat("%2F", 61),
		"x" + strings.Repeat("/", 84):  "x" + strings.Repeat("%2F", 61),
		"xx" + strings.Repeat("/", 84): "xx" + strings.Repeat("%2F", 60),
	} {
		got := fileName(id)
		begin, sum, _ := strings.Cut(got, marker)
		if begin != want || len(sum) != 64+len(extension) {
			t.Errorf("%.20q… of %d bytes: %s", id, len(id), got)
		}
	}
	// The hash is a promise too: later versions must find the file.
	const sum = "90d738c31c5ee1241cbcd2ff3d4aa1257ba5b7d717c545c397d37dc060ecf7ff" // by sha256sum
	if got := fileName(x + "x"); got != x[:184]+marker+sum+extension {
		t.Errorf("the name of a long id has become %s", got)
	}
}

func TestPublishedName(t *testing.T) {
	for id, want := range map[string]string{
		"room": "", "": ".json", ".hidden": ".hidden.json", "a:b": "a:b.json", `a\b`: `a\b.json`, "con": "con.json",
		"a\nb": "a\nb.json", "100%": "100%.json", "50% off": "50% off.json", "%zz": "%zz.json",
		"a%2Fb": "", "%2f": "", "%~": "", "a%~b": "", // may be other rooms' files
		"a/b": "", "../x": "", "/": "", "\x00": "", strings.Repeat("x", 251): "", strings.Repeat(":", 250): strings.Repeat(":", 250) + ".json",
	} {
		if filepath.Separator == '\\' {
			want = ""
		}
		if got := publishedName(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, id := range []string{"room", "", ".", "../x", "a/b", "%2F", "%", "%~", "con", "é\xff", strings.Repeat("日", 90), strings.Repeat("/", 300)} {
		f.Add(id, id+"x")
		f.Add(id, strings.ToUpper(id))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		name := fileName(a)
		stem, ok := strings.CutSuffix(name, ".json")
		switch {
		case !ok, name[0] == '.', len(name) > 255, !utf8.ValidString(name):
			t.Errorf("%q: %q", a, name)
		case !filepath.IsLocal(name) || filepath.Base(name) != name || filepath.Join("dir", name) != "dir"+string(filepath.Separator)+name:
			t.Errorf("%q leaves the folder: %q", a, name)
		case strings.ContainsAny(stem, `/\:*?"<>|`) || strings.ContainsFunc(stem, unicode.IsControl) || isDevice(stem):
			t.Errorf("%q: %q", a, name)
		case isTemp(name) || name == lockName:
			t.Errorf("%q is a file of ours: %q", a, name)
		}
		// What is not hashed can be read back, so no two ids share it.
		if !strings.Contains(stem, marker) {
			if back, err := url.PathUnescape(stem); err != nil || back != a {
				t.Errorf("%q: %q means %q, %v", a, name, back, err)
			}
		} else if back, err := url.PathUnescape(strings.ReplaceAll(stem[:strings.LastIndex(stem, marker)], marker, "!")); err != nil || !strings.HasPrefix(a, back) {
			t.Errorf("%q: %q begins with %q, %v", a, name, back, err)
		}
		if a != b && name == fileName(b) {
			t.Errorf("%q and %q are both %q", a, b, name)
		}
		// What the published server called a is not what we call another.
		if old := publishedName(a); old != "" {
			if back, err := url.PathUnescape(strings.TrimSuffix(old, extension)); err == nil && back != a && fileName(back) == old {
				t.Errorf("the old name of %q is that of %q: %q", a, back, old)
			}
			if filepath.Base(old) != old || !filepath.IsLocal(old) || isTemp(old) || old == lockName {
				t.Errorf("%q leaves the folder: %q", a, old)
			}
		}
	})
}
