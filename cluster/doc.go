// Package cluster is the protocol by which several nodes share rooms: Redis
// orders and keeps, the owner computes, the edges deliver. DESIGN.md beside
// this file says why it is as it is.
//
// So far it holds what decides, as state machines without I/O and without
// time, and the simulator that tries them; the nodes around them, and Redis,
// are still to come, so the binary does not use it yet.
//
//   - A [batch] is one entry of a partition's log: what one edge had to tell.
//   - A [sender] is an edge's way into the log: every item once and in order,
//     whatever becomes of an append.
//   - A [fold] is what an owner computes of the log: the rooms, and the outputs
//     that each edge is to get.
//   - A [receiver] is an edge's end of what owners tell it: each output once and
//     in order, whichever owner says it.
package cluster
