package main

import (
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/weftsync/weft/cluster"
)

// clusterOptions say with whom this node shares rooms, and by which Redis.
// Without a Redis URL it shares them with nobody.
type clusterOptions struct {
	redisURL, redisPrefix         string
	nodeName                      string
	join                          []string
	gossipListen, gossipAdvertise string
	gossipKey                     string
	leaseTTL, drainTimeout        time.Duration

	maxSessionBuffer, maxNodeBuffer int
	maxLogBytes, maxOutBytes        int

	means []*setting // what means something with a Redis only
}

func (o *clusterOptions) settings() []*setting {
	o.means = []*setting{
		checked(textSetting("redis-prefix", &o.redisPrefix, "weft:", "TEXT", "what the names of all keys in Redis begin with; clusters with different ones can share a Redis"), checkPrefix),
		checked(textSetting("node-name", &o.nodeName, "", "NAME", "name of this node, which no other has and which it keeps when it is restarted; without it, the host's name"), checkNodeName),
		listSetting("join", &o.join, "HOST:PORT,…", "where the gossip of other nodes is, at least one of which should run; a DNS name stands for all its addresses, and is looked up again and again. The first node needs none", checkJoin),
		addressSetting("gossip-listen", &o.gossipListen, ":7946", "where the nodes find each other, by TCP and UDP; they also connect to each other at ports of their own choice", false),
		checked(textSetting("gossip-advertise", &o.gossipAdvertise, "", "IP[:PORT]", "where the other nodes reach this one's gossip; without it, the machine's private address"), checkAdvertise),
		secret(checked(textSetting("gossip-key", &o.gossipKey, "", "KEY", "encrypts the gossip, the same on all nodes: 16, 24 or 32 bytes in base64, as `openssl rand -base64 32` makes them; without it, everyone who reaches the port can take part. Other users of the machine can see flags, so prefer the variable or the file"), checkGossipKey)),
		durationSetting("lease-ttl", &o.leaseTTL, 2*time.Second, 200*time.Millisecond, "how long a node that has fallen silent keeps its rooms from the others, which take them over then; the same on all nodes"),
		durationSetting("drain-timeout", &o.drainTimeout, 45*time.Second, shortest, "how long a node that ends may take to hand its rooms over and to close its sockets, a few at a time; --shutdown-timeout comes on top"),
		sizeSetting("max-session-buffer", &o.maxSessionBuffer, 1<<20, 1<<10, "most that may wait for Redis of one client; beyond it the client is read no further until Redis answers"),
		sizeSetting("max-node-buffer", &o.maxNodeBuffer, 64<<20, 1<<20, "most that may wait for Redis of all clients of this node"),
		sizeSetting("max-log-bytes", &o.maxLogBytes, 32<<20, 1<<20, "largest log of one of the 271 parts of the rooms in Redis; while it is full, because its owner stalls, the clients wait"),
		sizeSetting("max-out-bytes", &o.maxOutBytes, 64<<20, 1<<20, "most that Redis keeps for a node that does not fetch it; beyond it the clients concerned are closed, come back, and get what they missed"),
	}
	url := secret(textSetting("redis-url", &o.redisURL, "", "URL",
		"share rooms with other nodes by this Redis, in which they live then: redis://user:password@host:6379/0, rediss:// with TLS, redis://host1,host2,host3 a Redis Cluster (of which one host is enough with ?cluster=true), redis+sentinel://host1,host2/mymaster by Sentinels, unix:///run/redis.sock"))
	checked(url, func(text string) error {
		_, err := cluster.ParseRedisURL(text)
		return err
	})
	return in("Cluster", append([]*setting{url}, o.means...)...)
}

// on reports whether rooms are shared.
func (o *clusterOptions) on() bool { return o.redisURL != "" }

// check refuses settings that have no effect: who set them expects one. local
// are those about storage of this node's own.
func (o *clusterOptions) check(local []*setting) error {
	idle, why := o.means, "means nothing without redis-url, the Redis by which nodes share rooms"
	if o.on() {
		idle, why = local, "means nothing with redis-url, since rooms are kept in Redis then"
	}
	for _, s := range idle {
		if s.isSet() {
			return s.wrong("%s", why)
		}
	}
	return nil
}

// checked makes a setting refuse texts other than the empty one.
func checked(s *setting, check func(string) error) *setting {
	set := s.set
	s.set = func(text string) error {
		if text != "" {
			if err := check(text); err != nil {
				return err
			}
		}
		return set(text)
	}
	return s
}

const maxNameBytes = 100

// checkName is about what becomes a part of keys in Redis.
func checkName(text, others string) error {
	if len(text) > maxNameBytes {
		return errors.New("has more than " + strconv.Itoa(maxNameBytes) + " bytes")
	}
	for _, c := range text {
		if !strings.ContainsRune(others, c) && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return errors.New("has something else than letters, digits and " + others)
		}
	}
	return nil
}

func checkPrefix(text string) error   { return checkName(text, ":-_./") }
func checkNodeName(text string) error { return checkName(text, "-_.") }

func checkJoin(address string) error {
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
		return errors.New("has something that is not an address with a port, such as weft.internal:7946 or 10.0.0.1:7946")
	}
	return nil
}

func checkAdvertise(address string) error {
	host := address
	if ip, err := netip.ParseAddr(address); err != nil || ip.Zone() != "" {
		var port string
		if host, port, err = net.SplitHostPort(address); err != nil {
			return errors.New("is not an IP address, such as 10.0.0.1 or 10.0.0.1:7946")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("has no port between 1 and 65535")
		}
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
		return errors.New("is not the IP address of one machine, such as 10.0.0.1 or 10.0.0.1:7946")
	}
	return nil
}

func checkGossipKey(text string) error {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errors.New("is not base64: `openssl rand -base64 32` makes a key")
	}
	if n := len(key); n != 16 && n != 24 && n != 32 {
		return errors.New("does not stand for 16, 24 or 32 bytes: `openssl rand -base64 32` makes a key")
	}
	return nil
}
