package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

// bundled matches a heading of the list that the page's build makes of what it has put in.
var bundled = regexp.MustCompile(`(?m)^## (\S+) - (\S+) \((.*)\)$`)

// npmPackages are those that are in the page; package-lock.json has more, and their checksums.
func npmPackages(page string) ([]*spdx.Package, error) {
	list, err := os.ReadFile(filepath.Join(page, "dist/licenses.md"))
	if err != nil {
		return nil, fmt.Errorf("run `make playground` first: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(page, "package-lock.json"))
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		return nil, fmt.Errorf("package-lock.json: %w", err)
	}
	var packages []*spdx.Package
	for _, match := range bundled.FindAllStringSubmatch(string(list), -1) {
		name, version, license := match[1], match[2], match[3]
		entry := lock.Packages["node_modules/"+name]
		digest, found := strings.CutPrefix(entry.Integrity, "sha512-")
		if !found || entry.Version != version {
			return nil, fmt.Errorf("package-lock.json has no sha512 of %s %s, which is in the page", name, version)
		}
		raw, err := base64.StdEncoding.DecodeString(digest)
		if err != nil {
			return nil, fmt.Errorf("package-lock.json: %s: %w", name, err)
		}
		p := newPackage("npm", name, version, "pkg:npm/"+strings.Replace(name, "@", "%40", 1)+"@"+version)
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA512, Value: hex.EncodeToString(raw)}}
		p.PackageLicenseDeclared = license
		p.PrimaryPackagePurpose = "LIBRARY"
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		return nil, errors.New("dist/licenses.md names no package: has its form changed?")
	}
	return packages, nil
}

// addLicenses says of each Go module what the license files in its root are.
func addLicenses(root string, parts map[spdx.ElementID]*spdx.Package) error {
	list := exec.Command("go", "list", "-m", "-f", "{{.Path}} {{.Version}} {{.Dir}}", "all")
	list.Dir = root
	var complaint strings.Builder
	list.Stderr = &complaint
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("listing the modules: %w: %s", err, complaint.String())
	}
	for line := range strings.Lines(string(out)) {
		path, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		version, dir, _ := strings.Cut(rest, " ")
		p := parts[identifier("go", path, version)]
		if p == nil || dir == "" {
			continue
		}
		if p.PackageLicenseDeclared, err = licenseOf(dir); err != nil {
			return err
		}
	}
	return nil
}

// licenseOf is an SPDX expression, NOASSERTION if a part of a license file's text is not known.
func licenseOf(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, entry := range entries {
		name := strings.ToUpper(entry.Name())
		if !entry.Type().IsRegular() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return "", err
		}
		found := licensecheck.Scan(text)
		if found.Percent < 75 {
			return noAssertion, nil
		}
		for _, match := range found.Match {
			ids = append(ids, match.ID)
		}
	}
	if len(ids) == 0 {
		return noAssertion, nil
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " AND "), nil
}
