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
// Who cannot be taken gets an HTTP status instead of an upgrade, since clients
// back off only then; the Weft-Reason header and the label of
// weft_upgrades_refused_total say why. [Server.Drain] sends clients elsewhere at a
// pace before [Server.Shutdown] ends the rest.
//
// Inside, one connection is two things. A [Connection] takes a client from its
// URL to its session and back. A conn is the socket: one goroutine reads it,
// and whoever has something to write becomes its writer until there is nothing
// left, so that an idle connection costs one goroutine and no buffers. While
// the server delivers little, every message goes out at once. The more it
// delivers, the longer messages are gathered: the first one after a quiet spell
// goes out at once, and what comes within the next few milliseconds goes out
// together in one write.
package wsconn
