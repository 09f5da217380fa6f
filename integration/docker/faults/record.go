package faults

import (
	"encoding/json"
	"time"
)

// Patch is a document or a change to one: component data by key, every field's value as JSON.
type Patch map[string]map[string]json.RawMessage

// Kind tells events apart.
type Kind uint8

const (
	// Opened: the client has a new socket. Node.
	Opened Kind = iota + 1
	// Sent: a frame with document patches, by `patch` or by `reconnect`. Mark, Text.
	Sent
	// Acked: the frame Mark has an ack. Timestamp.
	Acked
	// Broadcast: another client's frame. Mark, Text, Timestamp.
	Broadcast
	// Diff: what the client had missed, as one patch. Timestamp.
	Diff
	// Synced: the answer to a reconnect is complete. Timestamp; Mark, if the reconnect had patches:
	// it stands for their ack.
	Synced
	// Resync: the room has lost what the client had seen. Timestamp.
	Resync
	// Closed: the socket has ended. Code, Reason; Code 0 if the client closed it itself.
	Closed
)

func (k Kind) String() string {
	return [...]string{"?", "opened", "sent", "acked", "broadcast", "diff", "synced", "resync", "closed"}[k]
}

// Event is something that happened to a client.
type Event struct {
	At        time.Duration // since the run began
	Kind      Kind
	Node      string
	Timestamp int64
	// Mark names one sending of one frame: what is sent again gets another.
	Mark   string
	Text   json.RawMessage // the list of document patches
	Code   int
	Reason string
}

// Recording is what one client saw, in the order in which it saw it.
type Recording struct {
	Client, Room string
	Events       []Event
	// Document is what the client had in the end.
	Document Patch
	// Unacked is how many edits never got an ack, though the client waited for them.
	Unacked int
}

// Final is a room as one node tells it to a client that knows nothing, when all is over.
type Final struct {
	Node, Room string
	Timestamp  int64
	Document   Patch
}

// Window is a time during which something holds for the clients of a node; an empty Node means all.
type Window struct {
	Node     string
	From, To time.Duration
}

func (w Window) holds(node string, at time.Duration) bool {
	return (w.Node == "" || w.Node == node) && at >= w.From && at <= w.To
}

func anyHolds(windows []Window, node string, at time.Duration) bool {
	for _, w := range windows {
		if w.holds(node, at) {
			return true
		}
	}
	return false
}

// Run is all there is to say about a run.
type Run struct {
	Recordings []Recording
	Finals     []Final
	// MayClose says when whose sockets may close.
	MayClose []Window
	// Silent says when a node's clients must hear nothing: no broadcast, no ack.
	Silent []Window
}
