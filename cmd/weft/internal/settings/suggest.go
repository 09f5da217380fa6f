package settings

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Suggest is ", did you mean x?" for the one of known that a text was most
// likely meant to be; empty if none is near. All begin with prefix.
func Suggest(prefix, text string, known []string) string {
	text = strings.TrimPrefix(text, prefix)
	if len(text) > maxSuggested {
		return ""
	}
	best, nearest := (len(text)+2)/3+1, ""
	for _, k := range known {
		if d := levenshtein.ComputeDistance(text, strings.TrimPrefix(k, prefix)); d < best {
			best, nearest = d, k
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", nearest)
}

// maxSuggested bounds the work, in bytes; no name is as long.
const maxSuggested = 100
