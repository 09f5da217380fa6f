package cluster

import (
	"context"
	"embed"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/store"
)

//go:embed scripts/*.lua
var scriptFiles embed.FS

var (
	appendScript = plainScript("append")
	claimScript  = plainScript("claim")
	emitScript   = plainScript("emit")
	renewScript  = plainScript("renew")
	buryScript   = plainScript("bury")
	tidyScript   = plainScript("tidy")
	ringScript   = plainScript("ring")
	markScript   = plainScript("mark")

	releaseScript = fencedScript("release")
	trimScript    = fencedScript("trim")
	retakeScript  = fencedScript("retake")
	brokeScript   = fencedScript("broke")
	lookScript    = fencedScript("look")
)

func scriptText(name string) string {
	text, err := scriptFiles.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}

func plainScript(name string) *redis.Script { return redis.NewScript(scriptText(name)) }

func fencedScript(name string) *redis.Script { return store.FencedScript(scriptText(name)) }

// pipelined is a script as one command of a pipeline: by its hash, or by its
// text where Redis does not know the hash any more.
type pipelined struct {
	script  *redis.Script
	unknown bool // to Redis, which said so
}

func (s *pipelined) eval(ctx context.Context, pipe redis.Pipeliner, keys []string, args ...any) *redis.Cmd {
	if s.unknown {
		return s.script.Eval(ctx, pipe, keys, args...)
	}
	return s.script.EvalSha(ctx, pipe, keys, args...)
}

// heard notes what came of a command.
func (s *pipelined) heard(err error) {
	switch {
	case err == nil:
		s.unknown = false
	case strings.HasPrefix(err.Error(), "NOSCRIPT"):
		s.unknown = true
	}
}
