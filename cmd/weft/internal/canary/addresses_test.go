package canary

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestEveryAddress(t *testing.T) {
	names := map[string][]string{
		"ip4 pods": {"10.0.0.3", "10.0.0.1", "10.0.0.2"}, "ip6 pods": {"fd00::1"},
		"ip6 six":   {"fd00::2", "fd00::1"},
		"ip4 gone":  {"10.9.9.9"},
		"ip4 crowd": strings.Split(strings.Repeat("10.0.0.1 ", 40)+"10.0.0.1", " "),
	}
	lookup := func(_ context.Context, network, host string) ([]netip.Addr, error) {
		var found []netip.Addr
		for _, text := range names[network+" "+host] {
			found = append(found, netip.MustParseAddr(text))
		}
		if found == nil {
			return nil, errors.New("no such host")
		}
		return found, nil
	}
	knock := func(_ context.Context, address string) error {
		if address == "10.0.0.2:8080" || strings.HasPrefix(address, "10.9.") {
			return errors.New("refused")
		}
		return nil
	}
	for text, want := range map[string][]string{
		"ws://pods:8080/x?y=1": {"ws://10.0.0.1:8080/x?y=1", "ws://10.0.0.3:8080/x?y=1"}, // one starts or ends
		"http://pods":          {"http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.3:80"},
		"ws://six:1":           {"ws://[fd00::1]:1", "ws://[fd00::2]:1"},
		"ws://crowd":           slices.Repeat([]string{"ws://10.0.0.1:80"}, maxAddresses),
		"ws://gone":            nil,
		"ws://nowhere":         nil,
		"wss://pods":           nil,
		"pods:8080":            nil,
	} {
		var report strings.Builder
		got, err := everyAddress(t.Context(), []string{text}, &report, lookup, knock)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
		if refused := strings.Contains(text, "pods:8080/"); refused != (report.String() == "passed over 10.0.0.2:8080: refused\n") && text != "ws://gone" {
			t.Errorf("%s: reports %q", text, report.String())
		}
	}
}
