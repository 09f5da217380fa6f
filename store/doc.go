// Package store keeps rooms. Two implementations of [room.Storage] come with Weft:
//
//   - [Memory] keeps them as long as the process lives, at no cost.
//   - [File] keeps each room as one JSON file in a folder, in the format of the
//     published server, so that the folder of such a server opens as it is.
//
// [Redis] is something else: the checkpoints of rooms that the nodes of a cluster
// share, written by whoever owns them. Package cluster uses it.
//
// Any type with Load and Save is another storage. Package storetest holds the suite
// that all of them pass; run it on yours.
package store
