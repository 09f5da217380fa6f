package wsconn_test

import (
	"testing"

	"github.com/weftsync/weft/wsconn"
)

func TestTwoClientsMeet(t *testing.T) {
	url, _ := start(t, wsconn.Config{})
	a := dial(t, url+"/any/path?roomId=r&clientId=a&token=t")
	a.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	a.expect(`{"type":"clientCount","count":1}`, `{"type":"synced","timestamp":0}`)
	b := dial(t, url+"/?roomId=r&clientId=b&token=t")
	b.expect(`{"type":"clientCount","count":2}`)
	a.expect(`{"type":"clientCount","count":2}`)
	a.send(`{"type":"patch","messageId":"m","documentPatches":[{"k/C":{"_exists":true,"x":1}}],"ephemeralPatches":[{"p/P":{"_exists":true}}]}`)
	a.expect(`{"type":"ack","messageId":"m","timestamp":1}`)
	b.expect(`{"type":"patch","clientId":"a","documentPatches":[{"k/C":{"_exists":true,"x":1}}],"timestamp":1,"ephemeralPatches":[{"p/P":{"_exists":true}}]}`)
	b.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	b.expect(`{"type":"patch","clientId":"","documentPatches":[{"k/C":{"_exists":true,"x":1}}],"timestamp":1,"ephemeralPatches":[{"p/P":{"_exists":true}}]}`,
		`{"type":"synced","timestamp":1}`)
	a.send(`null`)
	a.expectClose(1008, "message must be an object, not null")
	b.expect(`{"type":"patch","clientId":"a","ephemeralPatches":[{"p/P":{"_exists":false}}]}`, `{"type":"clientCount","count":1}`)
}
