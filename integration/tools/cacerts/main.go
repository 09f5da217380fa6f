// Command cacerts prints, as PEM, the certificates of the authorities that Mozilla trusts, for the
// container image. They come from a pinned module and not from the machine that builds the image,
// so that the same source makes the same image, without what that machine trusts besides.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	err := write(out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cacerts:", err)
		os.Exit(1)
	}
}

func write(out *bufio.Writer) error {
	for root := range bundle.Roots() {
		// A PEM file cannot say until when an authority is trusted. Leaving it out errs on the safe side.
		if root.Constraint != nil {
			continue
		}
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "# %s\n", cert.Subject)
		if err := pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return err
		}
	}
	return nil
}
