package wsconn_test

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// values are the values of a metric by its label, "" if it has none.
func values(t testing.TB, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		all := map[string]float64{}
		for _, m := range f.Metric {
			label := ""
			for _, l := range m.Label {
				label = l.GetValue()
			}
			if f.GetType() == dto.MetricType_GAUGE {
				all[label] = m.Gauge.GetValue()
			} else {
				all[label] = m.Counter.GetValue()
			}
		}
		return all
	}
	t.Fatalf("there is no metric %s", name)
	return nil
}

func value(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	return values(t, reg, name)[""]
}

// expectCloses fails the test unless sockets ended for these reasons only.
func expectCloses(t testing.TB, reg *prometheus.Registry, want map[string]float64) {
	t.Helper()
	for reason, n := range values(t, reg, "weft_closes_total") {
		if n != want[reason] {
			t.Errorf("%v sockets ended by %s, want %v", n, reason, want[reason])
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	url, manager := start(t, wsconn.Config{Registerer: reg})
	if err := wsconn.RegisterRooms(reg, manager.Stats); err != nil {
		t.Fatal(err)
	}
	a := dial(t, url+"/?roomId=r&clientId=a&token=t")
	a.expect(`{"type":"clientCount","count":1}`)
	b := dial(t, url+"/?roomId=s&clientId=b&token=t")
	b.expect(`{"type":"clientCount","count":1}`)
	const text = `{"type":"patch","messageId":"m","documentPatches":[{}]}`
	a.send(text)
	a.expect(`{"type":"ack","messageId":"m","timestamp":1}`)
	until(t, "frames counted", func() bool { return value(t, reg, "weft_sent_bytes_total") == 2*34+46 })
	for name, want := range map[string]float64{
		"weft_connections":                2,
		"weft_connections_accepted_total": 2,
		"weft_messages_received_total":    1,
		"weft_received_bytes_total":       float64(6 + len(text)),
		"weft_frames_sent_total":          3,
		"weft_writes_total":               3,
		"weft_rooms":                      2,
		"weft_sessions":                   2,
		"weft_room_messages_total":        1,
		"weft_room_deliveries_total":      3,
	} {
		if got := value(t, reg, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	a.Conn.Close()
	until(t, "one connection", func() bool { return value(t, reg, "weft_connections") == 1 })
	expectCloses(t, reg, map[string]float64{"gone": 1})
}

func TestNewServerRefusesConfigs(t *testing.T) {
	reg := prometheus.NewRegistry()
	newServer(t, wsconn.Config{Rooms: newLobby(), Registerer: reg})
	if _, err := wsconn.NewServer(wsconn.Config{Rooms: newLobby(), Authorizer: authz.Insecure{}, Registerer: reg}); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Errorf("registered twice: %v", err)
	}
	if _, err := wsconn.NewServer(wsconn.Config{Rooms: newLobby()}); err == nil {
		t.Error("a server without an authorizer")
	}
	if _, err := wsconn.NewServer(wsconn.Config{Authorizer: authz.Insecure{}}); err == nil {
		t.Error("a server without rooms")
	}
	if err := wsconn.RegisterRooms(reg, func() room.Stats { return room.Stats{} }); err != nil {
		t.Error(err)
	}
	if err := wsconn.RegisterRooms(reg, func() room.Stats { return room.Stats{} }); err == nil {
		t.Error("rooms were registered twice")
	}
}
