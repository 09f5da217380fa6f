package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

const (
	license     = "Apache-2.0" // Weft's
	noAssertion = "NOASSERTION"
	playground  = "cmd/weft/playground"
)

// release is what a document says something about.
type release struct {
	version string
	created int64  // seconds since 1970
	root    string // the repository
}

// describe makes the document of these binaries.
func (r *release) describe(binaries []string) (*spdx.Document, error) {
	doc := &spdx.Document{
		SPDXVersion:    spdx.Version,
		DataLicense:    spdx.DataLicense,
		SPDXIdentifier: "DOCUMENT",
		DocumentName:   "weft-" + r.version,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "weft-sbom"}},
			Created:  time.Unix(r.created, 0).UTC().Format(time.RFC3339),
		},
	}
	all := sha256.New() // names the document: other binaries, another document
	parts := map[spdx.ElementID]*spdx.Package{}
	page, err := npmPackages(filepath.Join(r.root, playground))
	if err != nil {
		return nil, err
	}
	slices.Sort(binaries)
	for _, path := range binaries {
		binary, info, err := r.binary(path)
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(all, binary.PackageChecksums[0].Value)
		doc.Packages = append(doc.Packages, binary)
		doc.Relationships = append(doc.Relationships, relate("DOCUMENT", "DESCRIBES", binary.PackageSPDXIdentifier))
		contained := append([]*spdx.Package{standardLibrary(info.GoVersion)}, page...)
		for _, module := range info.Deps {
			if module.Replace != nil {
				module = module.Replace
			}
			contained = append(contained, goModule(module))
		}
		for _, part := range contained {
			parts[part.PackageSPDXIdentifier] = part
			doc.Relationships = append(doc.Relationships, relate(binary.PackageSPDXIdentifier, "DEPENDS_ON", part.PackageSPDXIdentifier))
		}
	}
	if err := addLicenses(r.root, parts); err != nil {
		return nil, err
	}
	for _, part := range parts {
		doc.Packages = append(doc.Packages, part)
	}
	// The binaries stay first.
	slices.SortFunc(doc.Packages[len(binaries):], func(a, b *spdx.Package) int {
		return strings.Compare(string(a.PackageSPDXIdentifier), string(b.PackageSPDXIdentifier))
	})
	doc.DocumentNamespace = fmt.Sprintf("https://github.com/weftsync/weft/spdx/%s-%x", r.version, all.Sum(nil)[:8])
	return doc, nil
}

func relate(a spdx.ElementID, relation string, b spdx.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA:         common.DocElementID{ElementRefID: a},
		Relationship: relation,
		RefB:         common.DocElementID{ElementRefID: b},
	}
}

// newPackage has what each package must say. Its identifier is made of what it is and its name.
func newPackage(kind, name, version, purl string) *spdx.Package {
	return &spdx.Package{
		PackageSPDXIdentifier:   identifier(kind, name, version),
		PackageName:             name,
		PackageVersion:          version,
		PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion,
		PackageLicenseDeclared:  noAssertion,
		PackageCopyrightText:    noAssertion,
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl,
		}},
	}
}

// identifier keeps to letters, digits, dots and hyphens.
func identifier(words ...string) spdx.ElementID {
	return spdx.ElementID(strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.':
			return r
		}
		return '-'
	}, strings.Join(words, "-")))
}

// binary describes a file that Go has linked.
func (r *release) binary(path string) (*spdx.Package, *debug.BuildInfo, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading what %s was built from: %w", path, err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	purl := fmt.Sprintf("pkg:golang/%s@%s?goarch=%s&goos=%s#cmd/weft", info.Main.Path, r.version, settings["GOARCH"], settings["GOOS"])
	p := newPackage("binary", filepath.Base(path), r.version, purl)
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(content)
	p.PackageFileName = filepath.Base(path)
	p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(sum[:])}}
	p.PackageLicenseConcluded, p.PackageLicenseDeclared = license, license
	p.PrimaryPackagePurpose = "APPLICATION"
	return p, info, nil
}

// standardLibrary is Go's, of which a binary always holds a part.
func standardLibrary(version string) *spdx.Package {
	version = strings.TrimPrefix(version, "go")
	p := newPackage("go", "stdlib", version, "pkg:golang/stdlib@"+version)
	p.PackageLicenseDeclared = "BSD-3-Clause"
	p.PrimaryPackagePurpose = "LIBRARY"
	return p
}

func goModule(m *debug.Module) *spdx.Package {
	p := newPackage("go", m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version)
	p.PackageComment = "go.sum: " + m.Sum
	p.PrimaryPackagePurpose = "LIBRARY"
	return p
}
