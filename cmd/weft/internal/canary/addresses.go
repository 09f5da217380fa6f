package canary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

const (
	// maxAddresses bounds how many addresses of a name are joined.
	maxAddresses = 16
	// knockTime bounds how long it takes to find out that nobody listens.
	knockTime = 3 * time.Second
)

// EveryAddress puts in the place of each URL one for each address that its
// host's name stands for, so that each server behind the name is joined, and not
// whichever one the resolver names first. It is for names inside of a network,
// such as a headless Service's: wss and https are refused, since a certificate
// is for the name.
//
// An address at which nobody listens is passed over, and told to report: a server
// that starts or ends is still in the name.
func EveryAddress(ctx context.Context, urls []string, report io.Writer) ([]string, error) {
	return everyAddress(ctx, urls, report, net.DefaultResolver.LookupNetIP, knock)
}

func everyAddress(
	ctx context.Context, urls []string, report io.Writer,
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error), knock func(ctx context.Context, address string) error,
) ([]string, error) {
	var all []string
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "http" {
			return nil, fmt.Errorf("%w: URL %d does not begin with ws:// or http://, of which every address could be joined", ErrConfig, i+1)
		}
		// A name that has both kinds names every server twice.
		addresses, err := lookup(ctx, "ip4", u.Hostname())
		if err != nil || len(addresses) == 0 {
			if addresses, err = lookup(ctx, "ip6", u.Hostname()); err != nil {
				return nil, fmt.Errorf("the addresses of URL %d: %w", i+1, err)
			}
		}
		slices.SortFunc(addresses, netip.Addr.Compare)
		joined := 0
		var why error
		for _, address := range addresses[:min(len(addresses), maxAddresses)] {
			port := u.Port()
			if port == "" {
				port = "80"
			}
			at := *u
			at.Host = net.JoinHostPort(address.Unmap().String(), port)
			if err := knock(ctx, at.Host); err != nil {
				why = errors.Join(why, err)
				fmt.Fprintf(report, "passed over %s: %v\n", at.Host, err)
				continue
			}
			joined++
			all = append(all, at.String())
		}
		if joined == 0 {
			return nil, fmt.Errorf("nobody listens at any address of URL %d: %w", i+1, why)
		}
	}
	return all, nil
}

// knock finds out whether somebody listens.
func knock(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
