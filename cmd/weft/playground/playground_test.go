package playground

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func built(t *testing.T) http.Handler {
	t.Helper()
	handler, err := newHandler(fstest.MapFS{
		"placeholder.txt": {Data: []byte("keep")},
		"index.html":      {Data: []byte("<!doctype html><title>page</title>")},
		"playground.js":   {Data: []byte("export {}")},
		"playground.css":  {Data: []byte("body{}")},
		"icon.svg":        {Data: []byte("<svg/>")},
		"data.bin":        {Data: []byte{0, 1}},
	})
	if err != nil {
		t.Fatalf("newHandler: %v", err)
	}
	return handler
}

func ask(handler http.Handler, method, target string, header http.Header) *http.Response {
	request := httptest.NewRequest(method, target, nil)
	for name, values := range header {
		request.Header[name] = values
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return string(data)
}

func TestBuiltPageIsServed(t *testing.T) {
	handler := built(t)
	for _, c := range []struct{ target, contentType, body string }{
		{"/", "text/html; charset=utf-8", "<!doctype html><title>page</title>"},
		{"/?room=quiet-bay&token=dev", "text/html; charset=utf-8", "<!doctype html><title>page</title>"},
		{"/index.html", "text/html; charset=utf-8", "<!doctype html><title>page</title>"},
		{"/playground.js", "text/javascript; charset=utf-8", "export {}"},
		{"/playground.css", "text/css; charset=utf-8", "body{}"},
		{"/icon.svg", "image/svg+xml", "<svg/>"},
		{"/data.bin", "application/octet-stream", "\x00\x01"},
	} {
		response := ask(handler, http.MethodGet, c.target, nil)
		if response.StatusCode != http.StatusOK {
			t.Errorf("GET %s: status %d, want 200", c.target, response.StatusCode)
		}
		if got := response.Header.Get("Content-Type"); got != c.contentType {
			t.Errorf("GET %s: content type %q, want %q", c.target, got, c.contentType)
		}
		if got := body(t, response); got != c.body {
			t.Errorf("GET %s: body %q, want %q", c.target, got, c.body)
		}
		if got := response.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("GET %s: cache control %q, want no-cache", c.target, got)
		}
	}
}

func TestBuiltPageMayOpenSocketsAndNothingForeign(t *testing.T) {
	response := ask(built(t), http.MethodGet, "/", nil)
	policy := response.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "connect-src 'self' ws: wss:", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q allows something unsafe", policy)
	}
	if got := response.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options %q, want nosniff", got)
	}
	if got := response.Header.Get("Referrer-Policy"); got != "no-referrer" {
		t.Errorf("Referrer-Policy %q, want no-referrer: the address may hold a token", got)
	}
}

func TestUnchangedFileIsNotSentAgain(t *testing.T) {
	handler := built(t)
	etag := ask(handler, http.MethodGet, "/playground.js", nil).Header.Get("ETag")
	if etag == "" {
		t.Fatal("no ETag")
	}
	if other := ask(handler, http.MethodGet, "/playground.css", nil).Header.Get("ETag"); other == etag {
		t.Errorf("two files share the ETag %s", etag)
	}
	response := ask(handler, http.MethodGet, "/playground.js", http.Header{"If-None-Match": {etag}})
	if response.StatusCode != http.StatusNotModified {
		t.Errorf("status %d, want 304", response.StatusCode)
	}
	if got := body(t, response); got != "" {
		t.Errorf("body %q with a 304", got)
	}
}

func TestMissingBuildSaysHowToMakeIt(t *testing.T) {
	if _, err := newHandler(fstest.MapFS{"placeholder.txt": {Data: []byte("keep")}}); !errors.Is(err, errNotBuilt) {
		t.Fatalf("newHandler without a page: error %v, want %v", err, errNotBuilt)
	}
	handler := http.HandlerFunc(serveMissing)
	response := ask(handler, http.MethodGet, "/", nil)
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", response.StatusCode)
	}
	if got := response.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("cache control %q, want no-store: the page will be there soon", got)
	}
	page := body(t, response)
	for _, want := range []string{"make playground", "Node and npm", "weft serve --dev"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if got := body(t, ask(handler, http.MethodHead, "/", nil)); got != "" {
		t.Errorf("HEAD has the body %q", got)
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	for name, handler := range map[string]http.Handler{"built": built(t), "missing": http.HandlerFunc(serveMissing)} {
		t.Run(name, func(t *testing.T) {
			for _, target := range []string{"/nothing", "/../index.html", "/dist/index.html"} {
				if got := ask(handler, http.MethodGet, target, nil).StatusCode; got != http.StatusNotFound {
					t.Errorf("GET %s: status %d, want 404", target, got)
				}
			}
			response := ask(handler, http.MethodPost, "/", nil)
			if response.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("POST /: status %d, want 405", response.StatusCode)
			}
			if got := response.Header.Get("Allow"); got != "GET, HEAD" {
				t.Errorf("POST /: Allow %q", got)
			}
		})
	}
}

// TestHandlerFitsThisBinary passes with and without a build: what is embedded
// decides, and either way "/" answers with one of the two pages.
func TestHandlerFitsThisBinary(t *testing.T) {
	want := http.StatusOK
	if _, err := embedded.ReadFile("dist/" + indexFile); err != nil {
		want = http.StatusServiceUnavailable
	}
	response := ask(Handler(), http.MethodGet, "/", nil)
	if response.StatusCode != want {
		t.Errorf("status %d, want %d", response.StatusCode, want)
	}
	if page := body(t, response); !strings.Contains(page, "Weft") {
		t.Errorf("the page does not name Weft: %.80q", page)
	}
}
