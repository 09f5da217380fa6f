// Package room is the engine: documents that several clients change at once,
// and the live rooms around them.
//
// [State] is a room as a pure function: [State.Apply] takes an [Event] — a
// client joins, says something, leaves — and returns the [Effect] list that
// follows from it, with the messages for each client. It starts no goroutine,
// reads no clock, draws no random number and does no I/O, so that a room can be
// replayed, compared and tested step by step. [Document] is what it changes.
//
// [Manager] keeps the live rooms of one process: it loads each from a [Storage]
// when the first client comes, saves it some time after a change, and lets go of
// it when it has been without clients for a while. [Manager.Connect] adds a
// client, given by a [Socket], and returns the [Session] that takes its messages.
//
// What is said on the wire is package protocol's.
package room
