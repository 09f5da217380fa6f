package settings

import (
	"bytes"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
)

// A File is a file of secrets that a setting names.
type File struct {
	Setting *Setting
	Path    string // as it is set
	Content []byte // when it was read for the settings
}

// maxSecretFile bounds a file of keys or certificates, in bytes.
const maxSecretFile = 1 << 20

// Read reads the file again. The error completes the sentence "the file …".
func (f *File) Read() ([]byte, error) { return ReadFile(f.Path, maxSecretFile) }

// Refuse says of the file what is wrong with it, in the setting's name.
func (f *File) Refuse(why error) error {
	if bad, ok := errors.AsType[*room.ConfigError](why); ok {
		why = bad.Problem
	}
	return f.Setting.refuse(why)
}

// Lines are the secrets in a file, one a line. Blanks around them and empty lines
// do not count.
func Lines(content []byte) (lines []string) {
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// Secrets are those of a file of shared secrets.
func Secrets(content []byte) (secrets [][]byte) {
	for _, line := range Lines(content) {
		secrets = append(secrets, []byte(line))
	}
	return secrets
}

// RedisURL is the one in a file.
func RedisURL(content []byte) (*redis.UniversalOptions, error) {
	return cluster.ParseRedisURL(string(bytes.TrimSpace(content)))
}

func atLeastOne[T any](lines []T) error {
	if len(lines) == 0 {
		return errors.New("has no line that is not empty")
	}
	return nil
}

// readFiles reads the files that settings name into what they are for.
func (o *Server) readFiles(t Table) (problems []error) {
	read := func(name, path string, use func(content []byte) error) *File {
		if path == "" {
			return nil
		}
		f := &File{Setting: t.find(name), Path: path}
		var err error
		if f.Content, err = f.Read(); err == nil {
			err = use(f.Content)
		}
		if err != nil {
			problems = append(problems, f.Refuse(err))
		}
		return f
	}
	o.SecretFile = read(secretFileName, o.Auth.secretFile, func(content []byte) error {
		o.Auth.JWT.Secrets = Secrets(content)
		return atLeastOne(o.Auth.JWT.Secrets)
	})
	read("auth-public-key-file", o.Auth.publicKeyFile, func(content []byte) error {
		o.Auth.JWT.PublicKey = content
		return nil
	})
	o.GossipKeyFile = read("gossip-key-file", o.files.gossipKeys, func(content []byte) error {
		o.Cluster.GossipKeys = Lines(content)
		return atLeastOne(o.Cluster.GossipKeys)
	})
	o.RedisURLFile = read("redis-url-file", o.files.redisURL, func(content []byte) (err error) {
		o.Cluster.Redis, err = RedisURL(content)
		return err
	})
	read("redis-ca-file", o.files.redisCA, func(content []byte) error {
		if o.Cluster.Redis == nil {
			return nil // which is told as well
		}
		return cluster.TrustOnly(o.Cluster.Redis, content)
	})
	return problems
}
