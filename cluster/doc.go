// Package cluster lets several nodes share rooms: Redis orders and keeps, the
// owner computes, the edges deliver. [Join] makes a [Node], which takes the place
// of a [room.Manager]: any client may be connected to any node. DESIGN.md beside
// this file says why it is as it is.
//
// The way of a frame, file by file:
//
//   - entry.go waits until a new session is in its room; seat.go checks what a socket sends; edge.go queues it for its room's
//     partition, sender.go numbers it, and appender.go puts it into the log, one
//     [batch] of items at a time, while Redis has space, which headroom.go knows;
//   - readers.go reads the logs that this node owns, partition.go applies them by
//     fold.go and roomfold.go, and gathers what comes of it in one [bundle] for
//     each edge;
//   - outbox.go puts bundles into the streams of other nodes, inbox.go reads
//     this node's own, receiver.go drops what was heard before, and edge.go hands
//     the rest to the sockets. A node's own bundles go the short way.
//
// Who owns what: lease.go shows that this node lives, deathwatch.go, membership.go and
// liveness.go see that others do, ring.go says who should own which partition, and
// ownership.go decides by them, claim.go claims and handover.go hands over.
// rebalance.go moves sockets, not rooms, to nodes that have few. save.go
// checkpoints rooms and trims the log; source.go reads both back; mend.go writes again what Redis has forgotten; broken.go is for
// messages that break the engine. incarnation.go is all of this for one life of a node: join.go waits
// for the first, and node.go begins another when the others took it for dead.
//
// What decides has neither I/O nor time: [sender], [fold] and [receiver] are state
// machines, which a simulator tries in the tests.
package cluster
