package cluster

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/weftsync/weft/room"
)

// A node has one keyring, which its incarnations use one after the other.

// newKeyring makes the keyring of some keys in base64, nil if there are none.
func newKeyring(texts []string) (*memberlist.Keyring, error) {
	keys, err := gossipKeys(texts)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	return memberlist.NewKeyring(keys, keys[0])
}

// SetGossipKeys changes the keys of the gossip while the node runs, as
// [Config.GossipKeys] says. To replace a key without cutting nodes off from each
// other, give all nodes first the old and the new one, then the new and the old
// one, then the new one alone, each time waiting until all have them. After an
// error, which does not repeat the keys, the old ones hold. A gossip that has
// begun without encryption, or with it, stays so.
func (n *Node) SetGossipKeys(texts []string) error {
	keys, err := gossipKeys(texts)
	if err != nil {
		return &room.ConfigError{Field: "cluster.Config.GossipKeys", Problem: err}
	}
	ring := n.config.keyring
	if (ring == nil) != (len(keys) == 0) {
		return &room.ConfigError{Field: "cluster.Config.GossipKeys",
			Problem: errors.New("would change whether the gossip is encrypted, which needs a restart of all nodes")}
	}
	if ring == nil {
		return nil
	}
	n.keys.Lock()
	defer n.keys.Unlock()
	for _, key := range keys {
		if err := ring.AddKey(key); err != nil {
			return err
		}
	}
	// Used last is first in the ring. So the old ones come last, where removing them
	// moves no other: the library would move them under the eyes of its readers.
	for _, key := range slices.Backward(keys) {
		if err := ring.UseKey(key); err != nil {
			return err
		}
	}
	for _, old := range slices.Backward(slices.Clone(ring.GetKeys())) {
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			break
		}
		if err := ring.RemoveKey(old); err != nil {
			return err
		}
	}
	return nil
}

// gossipKeys reads keys, and never repeats them. The error is a problem as in
// [room.ConfigError].
func gossipKeys(texts []string) ([][]byte, error) {
	var keys [][]byte
	for _, text := range texts {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("is not base64: `openssl rand -base64 32` makes a key")
		}
		if err := memberlist.ValidateKey(key); err != nil {
			return nil, errors.New("does not stand for 16, 24 or 32 bytes: `openssl rand -base64 32` makes a key")
		}
		keys = append(keys, key)
	}
	return keys, nil
}
