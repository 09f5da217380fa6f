package cluster

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// While a key is replaced, step by step, the nodes go on to hear each other.
func TestGossipKeysAreReplaced(t *testing.T) {
	noLeaks(t)
	a := &Node{config: Config{keyring: keyring(t, key(1))}}
	b := &Node{config: Config{keyring: keyring(t, key(1))}}
	first := gossipNode(t, membershipConfig{incarnation: "a.1", keyring: a.config.keyring})
	second := gossipNode(t, membershipConfig{incarnation: "b.1", keyring: b.config.keyring, join: []string{first.address().String()}})
	awaitMembers(t, first, "a.1 joining", "b.1 joining")
	for _, keys := range [][]string{{key(1), key(2)}, {key(2), key(1)}, {key(2)}, {key(2), key(3), key(4)}, {key(3)}} {
		for _, n := range []*Node{a, b} {
			if err := n.SetGossipKeys(keys); err != nil {
				t.Fatal(err)
			}
			// This one has the keys of the step, the other perhaps those before.
			state := memberReady
			if n == b {
				state = memberDraining
			}
			if err := first.setState(state); err != nil {
				t.Fatal(err)
			}
			awaitMembers(t, second, "a.1 "+string(state), "b.1 joining")
		}
		var want [][]byte
		for _, k := range keys {
			one, err := gossipKeys([]string{k})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, one[0])
		}
		if got := a.config.keyring.GetKeys(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("the keys are %x, want %x", got, want)
		}
	}
	third := gossipNode(t, membershipConfig{incarnation: "c.1", keyring: keyring(t, key(1)), join: []string{first.address().String()}})
	awaitMembers(t, third, "c.1 joining")
}

func TestGossipKeysThatCannotBe(t *testing.T) {
	n := &Node{config: Config{keyring: keyring(t, key(1))}}
	for want, keys := range map[string][]string{
		"is not base64":          {key(2), "c2VjcmV0LWtleQ!"},
		"16, 24 or 32 bytes":     {"QUJD"},
		"stand for 16, 24 or 32": {key(2), ""},
		"restart of all":         nil,
	} {
		if err := n.SetGossipKeys(keys); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%q: %v", want, err)
		}
	}
	if keys := n.config.keyring.GetKeys(); len(keys) != 1 || keys[0][0] != 1 {
		t.Errorf("the keys are %x", keys)
	}
	if err := (&Node{}).SetGossipKeys([]string{key(1)}); err == nil {
		t.Error("a gossip without encryption got a key")
	}
	if err := (&Node{}).SetGossipKeys(nil); err != nil {
		t.Error(err)
	}
}
