package cluster

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestResolveJoinSettings(t *testing.T) {
	for entry, want := range map[string]joinName{
		"weft:1":          {"weft:1", "weft", 1},
		"10.0.0.1:80":     {"10.0.0.1:80", "10.0.0.1", 80},
		"[fd00::1]:65535": {"[fd00::1]:65535", "fd00::1", 65535},
	} {
		j, err := parseJoin([]string{entry}, nil)
		if err != nil || len(j.names) != 1 || j.names[0] != want {
			t.Errorf("%q is %+v, %v", entry, j.names, err)
		}
	}
	for _, entry := range []string{"", "weft", "10.0.0.1", "fd00::1", "[fd00::1]", ":7946", "weft:", "weft:0", "weft:65536", "weft:x", "a:b:c", "[fd00::1"} {
		_, err := parseJoin([]string{"ok:1", entry}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "cluster.Config.Join has ") {
			t.Errorf("%q gives %v", entry, err)
		}
	}
}

func TestResolveANameStandsForAllItsAddresses(t *testing.T) {
	answers := map[string][]netip.Addr{
		"weft":  {netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00::1%eth0")},
		"weft2": {netip.MustParseAddr("10.0.0.1")},
	}
	gone := errors.New("no such host")
	j, err := parseJoin([]string{"weft:1", "weft2:1", "nowhere:1", "10.0.0.2:1", "10.0.0.2:2"}, func(_ context.Context, host string) ([]netip.Addr, error) {
		if ips, ok := answers[host]; ok {
			return slices.Clone(ips), nil
		}
		return nil, gone
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	found, outcome := j.addresses(t.Context())
	for _, a := range found {
		got = append(got, a.String())
	}
	want := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2", "[fd00::1]:1"}
	if !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if len(outcome) != 5 || outcome["weft:1"] != nil || !errors.Is(outcome["nowhere:1"], gone) {
		t.Errorf("outcomes: %v", outcome)
	}
}

func TestResolveWhatToAdvertise(t *testing.T) {
	ips := func(s string) (list []netip.Addr) {
		for _, f := range strings.Fields(s) {
			list = append(list, netip.MustParseAddr(f))
		}
		return list
	}
	for name, c := range map[string]struct {
		own   string
		route map[string]string
		join  string
		want  string
		err   string
	}{
		"the default route":                {own: "127.0.0.1 10.0.0.5", route: map[string]string{"192.0.2.1": "10.0.0.5"}, want: "10.0.0.5"},
		"towards the others":               {own: "203.0.113.9 10.0.0.5", route: map[string]string{"192.0.2.1": "203.0.113.9", "10.0.0.6": "10.0.0.5"}, join: "10.0.0.6", want: "10.0.0.5"},
		"its own name says nothing":        {own: "203.0.113.9 10.0.0.5", route: map[string]string{"192.0.2.1": "203.0.113.9", "10.0.0.5": "10.0.0.5", "127.0.1.1": "127.0.0.1", "10.0.0.6": "10.0.0.5"}, join: "127.0.1.1 10.0.0.5 10.0.0.6", want: "10.0.0.5"},
		"only IPv6":                        {own: "::1 fe80::1 fd00::5", route: map[string]string{"2001:db8::1": "fd00::5"}, want: "fd00::5"},
		"a network without a way out":      {own: "127.0.0.1 10.0.0.5 fe80::1 fd00::1", want: "10.0.0.5"},
		"several and no way out":           {own: "10.0.0.5 10.1.0.5", err: "several addresses"},
		"nothing, the others are here":     {own: "127.0.0.1", join: "127.0.0.1", want: "127.0.0.1"},
		"nothing, the others are not here": {own: "127.0.0.1", join: "127.0.0.1 10.0.0.6", err: "set it to one"},
		"nothing":                          {own: "127.0.0.1 ::1", err: "set it to one"},
	} {
		m := machine{
			source: func(to netip.Addr) netip.Addr {
				from, _ := netip.ParseAddr(c.route[to.String()])
				return from
			},
			own: func() []netip.Addr { return ips(c.own) },
		}
		var join []netip.AddrPort
		for _, ip := range ips(c.join) {
			join = append(join, netip.AddrPortFrom(ip, gossipPort))
		}
		got, err := m.advertised(join)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, %v; want an error with %q", name, got, err, c.err)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("%s: %v, %v; want %s", name, got, err, c.want)
		}
	}
}

func TestResolveThisMachine(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	if ip := thisMachine.source(loopback); ip != loopback {
		t.Errorf("towards loopback this machine uses %v", ip)
	}
	if !slices.Contains(thisMachine.own(), loopback) {
		t.Errorf("this machine's addresses are %v, without loopback", thisMachine.own())
	}
}
