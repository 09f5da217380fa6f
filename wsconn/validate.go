package wsconn

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/weftsync/weft/room"
)

// Validate says what is wrong with the config, in a [room.ConfigError] for each
// field concerned, all joined; nil if nothing is. [NewServer] calls it.
func (c Config) Validate() error {
	var wrong []error
	check := func(field, problem string, is bool) {
		if is {
			wrong = append(wrong, &room.ConfigError{Field: "wsconn.Config." + field, Problem: errors.New(problem)})
		}
	}
	check("Rooms", "is not set", c.Rooms == nil)
	check("Authorizer", "is not set", c.Authorizer == nil)
	negative := func(field string, is bool) { check(field, "is negative", is) }
	negative("MaxMessageBytes", c.MaxMessageBytes < 0)
	negative("MaxQueueBytes", c.MaxQueueBytes < 0)
	negative("MaxConnections", c.MaxConnections < 0)
	negative("AcceptRate", c.AcceptRate < 0)
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"MaxConnectionAge", c.MaxConnectionAge}, {"PingInterval", c.PingInterval}, {"PongTimeout", c.PongTimeout}, {"HandshakeTimeout", c.HandshakeTimeout},
		{"WriteTimeout", c.WriteTimeout}, {"TokenGrace", c.TokenGrace}} {
		negative(d.field, d.value < 0)
	}
	for _, origin := range c.AllowedOrigins {
		if !isOrigin(origin) {
			check("AllowedOrigins", "has something that is not an origin, such as https://app.example.com", true)
			break
		}
	}
	return errors.Join(wrong...)
}

func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && u.Host != "" && text == strings.ToLower(u.Scheme+"://"+u.Host)
}
