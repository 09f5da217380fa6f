// Package helmdocs is empty: its module pins helm-docs, which makes the chart's
// README. It needs other versions of the same libraries than Helm does.
package helmdocs
