// Package store keeps rooms: the [room.Storage] implementations that come with
// Weft.
//
//   - [Memory] keeps them as long as the process lives, at no cost.
//   - [File] keeps each room as one JSON file in a folder, in the format of the
//     published server, so that the folder of such a server opens as it is.
//
// Any type with Load and Save is another. Package storetest holds the suite
// that all of them pass; run it on yours.
package store
