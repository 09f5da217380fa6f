// Package wsconn connects browsers to rooms over WebSocket.
//
// [Server] is an http.Handler that upgrades on any path, for servers that use
// net/http:
//
//	manager := room.NewManager(room.Config{Storage: files})
//	server, err := wsconn.NewServer(wsconn.Config{Rooms: manager, Authorizer: auth})
//	http.ListenAndServe(":8080", server)
//
// [Accept] does the same for a socket of any other library that can send a
// text message and close: it reads the query, authorizes, joins the room, and
// keeps what arrives meanwhile.
//
// Inside, one connection is two things. A [Connection] takes a client from its
// URL to its session and back. A conn is the socket: one goroutine reads it,
// and whoever has something to write becomes its writer until there is nothing
// left, so that an idle connection costs one goroutine and no buffers. The
// first message after a quiet spell goes out at once; what comes within the
// next few milliseconds goes out together in one write.
package wsconn
