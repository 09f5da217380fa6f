package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/redis/go-redis/v9"
)

// kernelMemory is what the kernel holds for itself and in sockets' buffers, in bytes; 0 where it cannot
// be told.
func kernelMemory() (bytes float64) {
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		bytes += 1024 * field(string(b), "Slab:")
	}
	if b, err := os.ReadFile("/proc/net/sockstat"); err == nil {
		_, tcp, _ := strings.Cut(string(b), "TCP:")
		bytes += float64(os.Getpagesize()) * field(tcp, " mem")
	}
	return bytes
}

// field is the number after a name.
func field(text, name string) (n float64) {
	_, rest, _ := strings.Cut(text, name)
	_, _ = fmt.Sscan(rest, &n) // which leaves 0
	return n
}

// redisMemory is what Redis says that it uses, in bytes.
func redisMemory(ctx context.Context, addr string) (float64, error) {
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = c.Close() }()
	info, err := c.Info(ctx, "memory").Result()
	return field(info, "used_memory:"), err
}

func folderSize(dir string) (bytes float64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if i, err := d.Info(); err == nil {
				bytes += float64(i.Size())
			}
		}
		return nil
	})
	return bytes
}
