// Package playground is Weft's whiteboard: a page on which everybody who opens
// the same link draws together, made with the published canvas-store client.
//
// The page's sources lie beside this file (index.html, src) and are built with
//
//	npm ci && npm run build
//
// into the folder dist, which is embedded here. The build is not committed: a
// weft built without it serves, in the playground's place, a page that says how
// to get it. [Handler] is all there is to use.
package playground

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed all:dist
var embedded embed.FS

// indexFile is the page; without it there is no build.
const indexFile = "index.html"

// pagePolicy allows what the page is made of and nothing else. Sockets may go
// anywhere, because the page can be pointed at another server for tests.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// missingPolicy fits the page that stands in for a missing build.
const missingPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes names the kinds of file that a build has. The system's own
// table is not asked: it differs between machines, and a wrong type for a
// script means an empty page.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".md":   "text/plain; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// Handler returns a handler that serves the playground that was built into this
// binary: the page at "/", its files beside it, 404 for any other path, 405 for
// methods other than GET and HEAD. Files carry an ETag and are revalidated by
// the browser on each use, so a new weft never meets an old page.
//
// Without a build, "/" answers 503 with a page that says how to make one.
//
// The handler may be used by any number of goroutines at once.
func Handler() http.Handler {
	dist, err := fs.Sub(embedded, "dist")
	if err != nil {
		return http.HandlerFunc(serveMissing)
	}
	handler, err := newHandler(dist)
	if err != nil {
		return http.HandlerFunc(serveMissing)
	}
	return handler
}

// errNotBuilt says that a folder holds no build of the page.
var errNotBuilt = errors.New("playground is not built")

// file is one file of the build, ready to be sent.
type file struct {
	body        []byte
	contentType string
	etag        string
}

// newHandler serves the build in dist. It reads every file once, now. Without a
// page in dist, the error is errNotBuilt.
func newHandler(dist fs.FS) (http.Handler, error) {
	files := make(map[string]file)
	err := fs.WalkDir(dist, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			contentType = "application/octet-stream"
		}
		body, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		files["/"+name] = file{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read playground: %w", err)
	}
	index, ok := files["/"+indexFile]
	if !ok {
		return nil, errNotBuilt
	}
	files["/"] = index
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !readOnly(w, r) {
			return
		}
		f, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		header := w.Header()
		secure(header, pagePolicy)
		header.Set("Content-Type", f.contentType)
		header.Set("Cache-Control", "no-cache")
		header.Set("ETag", f.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	}), nil
}

// serveMissing answers in the place of a playground that was not built.
func serveMissing(w http.ResponseWriter, r *http.Request) {
	if !readOnly(w, r) {
		return
	}
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	secure(header, missingPolicy)
	header.Set("Content-Type", contentTypes[".html"])
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method == http.MethodGet {
		// A client that left does not need the page.
		_, _ = strings.NewReader(missingPage).WriteTo(w)
	}
}

// readOnly answers methods that make no sense here, and reports whether to go on.
func readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

// secure sets the headers that every answer with a page or its parts carries.
// The address may hold a token, so it is never given away as a referrer.
func secure(header http.Header, policy string) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
}
