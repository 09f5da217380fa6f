// Command sbom writes what Weft's binaries are made of, as SPDX 2.3 in JSON: the Go modules that the
// linker put in, the standard library, and the npm packages of the page that is embedded. The same
// input gives the same bytes.
//
//	sbom -version v1.2.3 -created 1700000000 -out weft.spdx.json weft-v1.2.3-linux-amd64 …
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "sbom:", err)
		}
		os.Exit(2)
	}
}

func run(args []string, usage io.Writer) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	flags.SetOutput(usage)
	r := release{}
	flags.StringVar(&r.version, "version", "", "of the release, such as v1.2.3")
	created := flags.String("created", "0", "when the source was committed, in seconds since 1970")
	flags.StringVar(&r.root, "root", "../..", "the repository, with the page built: what its parts are is read there")
	out := flags.String("out", "", "where to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if r.version == "" || *out == "" || flags.NArg() == 0 {
		return errors.New("-version, -out and at least one binary are needed")
	}
	var err error
	if r.created, err = strconv.ParseInt(*created, 10, 64); err != nil {
		return fmt.Errorf("-created: %w", err)
	}
	doc, err := r.describe(flags.Args())
	if err != nil {
		return err
	}
	text, err := encode(doc)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, text, 0o644)
}

// encode also reads what it has written: a document that SPDX's own library refuses is none.
func encode(doc *spdx.Document) ([]byte, error) {
	var text bytes.Buffer
	if err := spdxjson.Write(doc, &text, spdxjson.Indent("  "), spdxjson.EscapeHTML(false)); err != nil {
		return nil, err
	}
	read, err := spdxjson.Read(bytes.NewReader(text.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("reading what was written: %w", err)
	}
	if err := spdxlib.ValidateDocument(read); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
