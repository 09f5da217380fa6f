package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
)

// A server and the application share a secret: the application makes tokens,
// the server verifies them.
func ExampleNewJWT() {
	secret := []byte("keep 32 random bytes here, please")
	authorizer, err := authz.NewJWT(context.Background(), authz.JWTConfig{Secret: secret})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer authorizer.Close()

	token, err := authz.Mint(secret, authz.MintConfig{
		Room: "sketch", Write: true, TTL: time.Hour, Metadata: json.RawMessage(`{"name":"Ada"}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	grant, err := authorizer.Authorize(ctx, authz.Info{RoomID: "sketch", ClientID: "c1", Token: token})
	fmt.Println(grant.Permission, string(grant.Metadata), err)

	_, err = authorizer.Authorize(ctx, authz.Info{RoomID: "diary", ClientID: "c1", Token: token})
	var denied *authz.Denied
	if errors.As(err, &denied) {
		fmt.Println(denied.Reason)
	}
	// Output:
	// readwrite {"name":"Ada"} <nil>
	// token is for another room; get a token for this room
}

// The application answers whether a user may open a room.
func ExampleNewWebhook() {
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ RoomID, Token string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if q.Token != "ada's session" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"reason":"sign in first"}`)
			return
		}
		fmt.Fprint(w, `{"permissions":"readwrite","metadata":{"name":"Ada"}}`)
	}))
	defer application.Close()

	authorizer, err := authz.NewWebhook(authz.WebhookConfig{URL: application.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer authorizer.Close()
	for _, token := range []string{"ada's session", "nobody's"} {
		grant, err := authorizer.Authorize(context.Background(), authz.Info{RoomID: "sketch", ClientID: "c1", Token: token})
		fmt.Println(grant.Permission, string(grant.Metadata), err)
	}
	// Output:
	// readwrite {"name":"Ada"} <nil>
	//   authorization denied: sign in first
}

// An application's own rule, asked at connect and at every refresh. At connect
// it has the HTTP request; on a refresh, metadata left nil stays what it was.
func ExampleAuthorizerFunc() {
	members := map[string]room.Permission{"ada": room.ReadWrite, "bob": room.ReadOnly}
	var authorizer authz.Authorizer = authz.AuthorizerFunc(func(_ context.Context, info authz.Info) (room.Grant, error) {
		permission, ok := members[info.Token]
		if !ok {
			return room.Grant{}, authz.Deny("ask ada for access")
		}
		grant := room.Grant{Permission: permission}
		if info.Request != nil {
			metadata, err := json.Marshal(map[string]string{"user": info.Token, "via": info.Request.Header.Get("Origin")})
			if err != nil {
				return room.Grant{}, err
			}
			grant.Metadata = metadata
		}
		return grant, nil
	})

	connect := httptest.NewRequest("GET", "/?roomId=sketch&clientId=c1&token=ada", nil)
	connect.Header.Set("Origin", "https://app.example")
	ask := func(token string, r *http.Request) {
		grant, err := authorizer.Authorize(context.Background(), authz.Info{RoomID: "sketch", ClientID: "c1", Token: token, Request: r})
		if err != nil {
			fmt.Println(err)
			return
		}
		if grant.Metadata == nil {
			fmt.Printf("%s, metadata kept\n", grant.Permission)
			return
		}
		fmt.Printf("%s, metadata: %s\n", grant.Permission, grant.Metadata)
	}
	ask("ada", connect)
	members["ada"] = room.ReadOnly
	ask("ada", nil)
	delete(members, "ada")
	ask("ada", nil)
	// Output:
	// readwrite, metadata: {"user":"ada","via":"https://app.example"}
	// readonly, metadata kept
	// authorization denied: ask ada for access
}
