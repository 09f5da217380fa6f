package store

import (
	"context"
	_ "embed" // the scripts
	"errors"
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
//	weft:{p7}:own       hash  epoch and owner of the partition, and whether it is released
//	weft:{p7}:live      set   the rooms whose checkpoints have sessions
//	weft:{p7}:r:<room>  hash  the checkpoint: its id, format, place in the log, timestamp, order
//	                          of the sessions, and the version of each page of the document
//	weft:{p7}:d:<room>  hash  the document, a field <page>@<version> for each [room.Page]
//	weft:{p7}:s:<room>  hash  the sessions, by id
//
// # Guarantees
//
// A checkpoint is replaced as a whole or not at all. What has changed of it is
// written by one script; if that is more than about 1 MiB of document, the pages
// are written ahead, by calls of that size so that no other client of Redis
// waits for long, under versions that no checkpoint has until the last call
// completes it. If that call never comes, the old checkpoint stays, and the next
// save removes what was written ahead.
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
	id        string   // of the checkpoint
	timestamp int64    // of the document
	pages     []string // versions; nil if they must all be written
	order     uint64   // hash of the encoding of the sessions' order
	sessions  map[string]uint64
}

// PartitionKey is the key of something that a partition has.
func PartitionKey(prefix string, partition int, name string) string {
	return prefix + "{p" + strconv.Itoa(partition) + "}:" + name
}

// OwnKey is the key of the hash that says who owns a partition, with the fields
// epoch, owner, and released, which is 1 if the owner has given it up.
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

// Fence is in whose name something is written. It is refused with [ErrFenced]
// if the partition has, in Redis, a higher epoch, or the same one with another
// owner or released. If it has a lower one or none, Redis has lost the claim
// and gets it back with the write.
type Fence struct {
	Partition int
	Epoch     uint64 // below 2^53
	Owner     string
}

// ErrFenced: the partition has another owner, or none. Nothing is written.
var ErrFenced = errors.New("another node owns the partition")

//go:embed scripts/fence.lua
var fenceLua string

// FencedScript is a script that runs only in the name of the owner of a
// partition; see [Fence]. KEYS[1] must be the partition's [OwnKey], ARGV[1] the
// epoch and ARGV[2] the owner. It is refused with an error that [IsFenced]
// knows, before anything of body has run.
func FencedScript(body string) *redis.Script { return redis.NewScript(fenceLua + body) }

// IsFenced reports whether err is that of a [FencedScript] which was refused,
// or [ErrFenced].
func IsFenced(err error) bool {
	return err != nil && (errors.Is(err, ErrFenced) || redis.HasErrorPrefix(err, "FENCED"))
}
