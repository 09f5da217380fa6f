package store

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
)

// RedisConfig says where a [Redis] keeps its rooms.
type RedisConfig struct {
	// Client is used for everything and not closed. It may retry: every call
	// has the same effect if Redis gets it twice.
	Client redis.UniversalClient
	// Prefix begins every key. It must not have braces, which Redis Cluster
	// takes for a hash tag. Default "weft:".
	Prefix string
}

// DefaultPrefix begins every key in Redis unless another prefix is configured.
const DefaultPrefix = "weft:"

// Redis keeps the checkpoints of a cluster's rooms. Make it with [NewRedis]. It
// is safe for concurrent use.
//
// Unlike the other stores it is no [room.Storage]: what it keeps of a room is a
// [Checkpoint], which belongs to a place in the log of the room's partition, and
// it lets nobody write but the partition's owner; see [Fence].
//
// # Keys
//
// All of a partition share the hash tag {p<N>}, so that one script can use them
// in Redis Cluster. With the default prefix they are:
//
//	weft:{p7}:own       hash  epoch and owner of the partition, whether it is released, and the last link
//	                          of the chain; see [Chain]
//	weft:{p7}:live      set   the rooms whose checkpoints have sessions
//	weft:{p7}:r:<room>  hash  the checkpoint: its id, format, place in the log, timestamp, order
//	                          of the sessions, and in d0, d1, … the version and the number of
//	                          parts of each page of the document, 64 pages in each
//	weft:{p7}:d:<room>  hash  the document, for each [room.Page] the fields <page>@<version>,
//	                          <page>@<version>.1, … with up to 16 KiB of its text each
//	weft:{p7}:s:<room>  hash  the sessions, by id
//
// # Guarantees
//
// A checkpoint is replaced as a whole or not at all. What has changed of it is
// written by one script; if that is more than about 256 KiB of document, the parts
// are written ahead, by calls of that size so that no other client of Redis
// waits for long however large a page is, under versions that no checkpoint has until the last call
// completes it. If that call never comes, the old checkpoint stays, and the next
// save removes what was written ahead. Many parts that are no longer needed are removed
// after the call that completes, by calls that are as short, and reading takes as many.
//
// A save follows the checkpoint that it was made to follow, known by an id that
// every save draws anew, or has no effect. So a call that reaches Redis late,
// or twice, does no harm.
type Redis struct {
	client redis.UniversalClient
	prefix string
}

// NewRedis returns a store; it does not connect.
func NewRedis(c RedisConfig) *Redis {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	return &Redis{client: c.Client, prefix: c.Prefix}
}

// Checkpoint is a room at one place in the log of its partition.
type Checkpoint struct {
	// Applied is the id of the last entry that the room has applied.
	Applied string
	// Snapshot is the document; nil means an empty one. Load never returns nil.
	Snapshot *room.Snapshot
	// Sessions come back in the same order, all of them but Grant.Expires. No
	// two may have the same ID.
	Sessions []room.SessionState
	// Homes has, by session id, the incarnation of the edge that holds the
	// session. What it has of others is not kept, nor is an empty incarnation.
	Homes map[string]string
}

// Stored is what Redis has of a room, so that the next save writes only what
// has changed. It does not change.
type Stored struct {
	id        string       // of the checkpoint
	timestamp int64        // of the document
	pages     []storedPage // nil if they must all be written
	fields    int          // parts of all pages
	order     uint64       // hash of the encoding of the sessions' order
	sessions  map[string]uint64
}

// Unsaved is about how many bytes of a document Save would write, s being what Redis
// has of the room; nil: nothing. It stops counting when it is more than enough.
func (s *Stored) Unsaved(d *room.Document, enough int) int {
	if s == nil || s.pages == nil || d.Timestamp() < s.timestamp {
		return d.Size()
	}
	return d.SizeAfter(s.timestamp, enough)
}

// PartitionKey is the key of something that a partition has.
func PartitionKey(prefix string, partition int, name string) string {
	return prefix + "{p" + strconv.Itoa(partition) + "}:" + name
}

// OwnKey is the key of the hash that says who owns a partition, with the fields
// epoch, owner, released, which is 1 if the owner has given it up, and link; see [Chain].
func OwnKey(prefix string, partition int) string { return PartitionKey(prefix, partition, "own") }

func (r *Redis) key(partition int, name string) string {
	return PartitionKey(r.prefix, partition, name)
}

// Live returns the ids of the rooms whose checkpoints have sessions, in no
// order.
func (r *Redis) Live(ctx context.Context, partition int) ([]string, error) {
	rooms, err := r.client.SMembers(ctx, r.key(partition, "live")).Result()
	if err != nil {
		return nil, fmt.Errorf("the rooms of partition %d cannot be listed: %w", partition, err)
	}
	return rooms, nil
}

//go:embed scripts/fence.lua
var fenceLua string
