package settings

import (
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
)

// Read is [Table.Read] for the server's own table t, and finds what no setting
// can find by itself. It connects to nothing.
func (o *Server) Read(t Table, from Sources) (problems []error) {
	from.InFile = t
	rest, problems := t.Read(from)
	if len(rest) > 0 {
		problems = append(problems, NoArguments(from.Command))
	}
	if wrong := o.readFiles(t); len(wrong) > 0 {
		return append(problems, wrong...) // what else there is to say may come of it
	}
	o.finish()
	problems = append(problems, o.check(t, slices.ContainsFunc(problems, isUnread))...)
	return slices.CompactFunc(problems, func(a, b error) bool { return a.Error() == b.Error() })
}

// NoArguments is the error about arguments where there can be only flags. They
// are not quoted: one may be half of a secret.
func NoArguments(command string) error {
	return Misused("%s takes flags only, and an argument is none; a switch is turned off like this: --flag=false", command)
}

// check finds what does not fit together; unread says that there may be more
// settings than are known.
func (o *Server) check(t Table, unread bool) (problems []error) {
	add := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	for _, err := range errorList(o.validate()) {
		add(t.Translate(err))
	}
	if o.Pprof && o.AdminListen == "" {
		add(Wrong("pprof", "needs an admin-listen address, which is empty"))
	}
	if o.redis = "redis-url-file"; t.find(o.redis).text == "" {
		o.redis = "redis-url"
	}
	shared := t.find(o.redis).text != "" // be it right or wrong
	for _, s := range t.All() {
		if s.IsSet() && s.Only == OneNode && shared {
			add(s.Wrong("means nothing with redis-url, since rooms are kept in Redis then"))
		}
		if s.IsSet() && s.Only == InCluster && !shared {
			add(s.Wrong("means nothing without redis-url, the Redis by which nodes share rooms"))
		}
	}
	return append(problems, o.checkAuth(t, unread)...)
}

// validate asks the packages what they think of their configs. What is not
// there yet is not asked about.
func (o *Server) validate() error {
	sockets, shared := o.Sockets, o.Cluster
	sockets.Rooms, sockets.Authorizer = new(room.Manager), authz.Insecure{}
	if shared.Redis == nil {
		shared.Redis = new(redis.UniversalOptions)
	}
	return errors.Join(sockets.Validate(), shared.Validate())
}

// checkAuth makes sure that there is one kind of authorization, and not two: it
// would be a guess which of them was meant.
func (o *Server) checkAuth(t Table, unread bool) (problems []error) {
	chosen := t.chosen()
	switch {
	case o.Dev && len(chosen) > 0:
		return []error{chosen[0].Wrong("cannot be set together with dev, which lets everyone in")}
	case len(chosen) == 0 && !o.Dev && unread:
		return nil // somebody may be chosen in what could not be read
	case len(chosen) == 0 && !o.Dev:
		return []error{Wrong("authorization", "nothing says who may connect: set --auth-jwt-secret, --auth-jwt-secret-file, --auth-jwks-url, --auth-public-key-file or --auth-webhook-url, or --dev to let everyone in on your own machine")}
	case len(chosen) > 1:
		return []error{chosen[0].Wrong("cannot be set together with %s", chosen[1].Name)}
	}
	kind, mode := "dev", t.chosenMode()
	if !o.Dev {
		kind = chosen[0].Name
	}
	for _, s := range t.All() {
		if s.IsSet() && (s.Only == ByJWT || s.Only == ByWebhook) && s.Only != mode {
			problems = append(problems, s.Wrong("means nothing with %s", kind))
		}
	}
	var err error
	switch mode {
	case ByJWT:
		err = o.Auth.JWT.Validate()
	case ByWebhook:
		err = o.Auth.Webhook.Validate()
	}
	if err != nil {
		problems = append(problems, t.Translate(err))
	}
	return problems
}

// errorList takes apart what errors.Join has joined.
func errorList(err error) (list []error) {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) // what is wrapped deeper stays together
	if !ok {
		return []error{err}
	}
	for _, e := range joined.Unwrap() {
		list = append(list, errorList(e)...)
	}
	return list
}
