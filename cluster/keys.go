package cluster

import "github.com/weftsync/weft/store"

// keys names what is in Redis. The keys of a partition have their hash tag in
// common, and so have those of a node, so that a script may use them together
// in a Redis Cluster.
//
//	{pN}:own    hash    who owns: epoch, owner, link (of its chain of writes); after a release: released, cut, next
//	{pN}:log    stream  batches: p (the id before), b
//	{pN}:meta   hash    of the log: put and cut (bytes), last (id)
//	{pN}:base   hash    where the log begins: position, edges
//	{pN}:tries  hash    place → how often an item has broken the engine
//	{pN}:r:…    the rooms' checkpoints, see store.Redis
//	leases      zset    incarnation → until when it lives; "!" and incarnation → when it was taken for
//	                    dead; both in ms by Redis's clock
//	n:{I}:out   stream  what owners tell I: o (the owner's node), n (its number), c (entries before it were cut), b
//	n:{I}:meta  hash    of that stream: put and got (bytes), o:{J} (the last number of each owner's node J), id (of
//	                    the last entry); gone: I was taken for dead
//	n:{I}:hot, cold, in  streams that make I's blocking reads return
type keys struct{ prefix string }

func (k keys) partition(n int, what string) string { return store.PartitionKey(k.prefix, n, what) }

func (k keys) own(n int) string   { return k.partition(n, "own") }
func (k keys) log(n int) string   { return k.partition(n, "log") }
func (k keys) meta(n int) string  { return k.partition(n, "meta") }
func (k keys) base(n int) string  { return k.partition(n, "base") }
func (k keys) tries(n int) string { return k.partition(n, "tries") }

func (k keys) node(incarnation, what string) string {
	return k.prefix + "n:{" + incarnation + "}:" + what
}

func (k keys) leases() string          { return k.prefix + "leases" }
func (k keys) out(i string) string     { return k.node(i, "out") }
func (k keys) outMeta(i string) string { return k.node(i, "meta") }
