package store

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Chain counts what the owner of a partition has written in its name. Every write
// is a link, numbered from 1 in each epoch; Redis keeps the last number beside the epoch
// and the script of each write compares. So an owner notices that Redis has forgotten
// something, in whichever room, by the next write in any: a Redis that goes back goes
// back as a whole to a moment when it had an earlier link. The zero value is a
// chain without links. It is safe for concurrent use.
type Chain struct {
	writing sync.Mutex // holds who writes: links reach Redis one after the other

	mu   sync.Mutex
	sure uint64 // the last link that Redis is known to have had
	last uint64 // the last that was sent
	read string // the last entry of the log that the owner has read
}

// Read tells that the owner has read the log up to an entry, which Redis must have
// from now on, or have trimmed; empty if that is not known.
func (c *Chain) Read(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = id
}

// Due is what Redis must have now, unless it has forgotten something: this link, or a later
// one, and this entry of the log, if there is one.
func (c *Chain) Due() (link uint64, read string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sure, c.read
}

// Next is the number of a new link.
func (c *Chain) Next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	return c.last
}

// Done tells that Redis has had a link. A link whose outcome is not known stays
// one that Redis may have.
func (c *Chain) Done(link uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sure = max(c.sure, link)
}

// Fence is in whose name something is written, and after what.
//
// A write is refused with [ErrFenced] if the partition has, in Redis, a higher epoch, or the
// same one with another owner or released; and with [ErrForgotten] if Redis does not
// have what Chain says, or has lost the claim. Then [Fence.Retake] takes up the chain again.
type Fence struct {
	Partition int
	Epoch     uint64 // below 2^53
	Owner     string
	Chain     *Chain // one for all writes with this epoch
}

var (
	// ErrFenced says that the partition has another owner, or none. Nothing is written.
	ErrFenced = errors.New("another node owns the partition")
	// ErrForgotten says that Redis has lost something that its owner knows it had.
	// Nothing is written.
	ErrForgotten = errors.New("redis has forgotten what was written before")
)

// FencedScript is a script that runs only in the name of the owner of a
// partition, by [Fence.Run]. KEYS[1] to KEYS[4] and ARGV[1] to ARGV[5] are the fence's: own,
// meta, log and base of the partition, epoch, owner, and what Redis must have. It is refused with an error that
// [IsFenced] or [IsForgotten] knows before anything of body has run.
func FencedScript(body string) *redis.Script { return redis.NewScript(fenceLua + body) }

// Run runs a [FencedScript] with the fence before its keys and arguments. Writes
// with the same chain wait for each other.
func (f Fence) Run(ctx context.Context, c redis.Scripter, prefix string, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	sure, read := f.Chain.Due()
	return f.run(ctx, c, prefix, script, strconv.FormatUint(sure, 10), read, keys, args)
}

// Retake runs a [FencedScript] that takes up the chain again, after an owner has found out
// that Redis has forgotten something. What is in Redis is then still as old as it was.
func (f Fence) Retake(ctx context.Context, c redis.Scripter, prefix string, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	_, read := f.Chain.Due()
	return f.run(ctx, c, prefix, script, "", read, keys, args)
}

func (f Fence) run(ctx context.Context, c redis.Scripter, prefix string, script *redis.Script, sure, read string, keys []string, args []any) *redis.Cmd {
	f.Chain.writing.Lock()
	defer f.Chain.writing.Unlock()
	link := f.Chain.Next()
	keys = append(f.keys(prefix), keys...)
	args = append([]any{f.Epoch, f.Owner, sure, link, read}, args...)
	cmd := script.Run(ctx, c, keys, args...)
	if err := cmd.Err(); err == nil || errors.Is(err, redis.Nil) {
		f.Chain.Done(link)
	}
	return cmd
}

func (f Fence) keys(prefix string) []string {
	var keys []string
	for _, name := range []string{"own", "meta", "log", "base"} {
		keys = append(keys, PartitionKey(prefix, f.Partition, name))
	}
	return keys
}

// Look is the keys and arguments with which a [FencedScript] writes nothing, and is refused if
// Redis has forgotten something or the partition has another owner.
func (f Fence) Look(prefix string) (keys []string, args []any) {
	sure, read := f.Chain.Due()
	return f.keys(prefix), []any{f.Epoch, f.Owner, sure, "", read}
}

// IsFenced reports whether err is that of a [FencedScript] which was refused
// since the partition has another owner, or [ErrFenced].
func IsFenced(err error) bool {
	return err != nil && (errors.Is(err, ErrFenced) || redis.HasErrorPrefix(err, "FENCED"))
}

// IsForgotten reports whether err is that of a [FencedScript] which was refused
// since Redis has forgotten something, or [ErrForgotten].
func IsForgotten(err error) bool {
	return err != nil && (errors.Is(err, ErrForgotten) || redis.HasErrorPrefix(err, "FORGOT"))
}
