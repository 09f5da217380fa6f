package chart

import (
	"strings"
	"testing"
)

// plain are values that are enough.
const plain = "{auth: {existingSecret: weft-auth}, redis: {existingSecret: weft-redis}, gossip: {existingSecret: weft-gossip}}"

// TestRefusesWithASentence lists what does not fit together, and what is said.
func TestRefusesWithASentence(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"nobody may connect":    {"{auth: {existingSecret: ''}}", `kubectl create secret generic weft-auth --namespace rooms --from-literal=jwt-secret="$(openssl rand -base64 32)"`},
		"no Redis":              {"{redis: {existingSecret: ''}}", "kubectl create secret generic weft-redis --namespace rooms --from-literal=redis-url='rediss://"},
		"two Redises":           {"{redis: {embedded: {enabled: true}}}", "rooms live in one Redis only"},
		"two authorizers":       {"{auth: {jwksUrl: https://auth.example.com}}", "auth.existingSecret and auth.jwksUrl cannot be set together"},
		"dev and a secret":      {"{settings: {dev: true}}", "auth.existingSecret and settings.dev cannot be set together"},
		"too little grace":      {"{terminationGracePeriodSeconds: 94}", "94 seconds are less than a pod may need to end, which is preStop 10 + drain 45 + shutdown 30 + 10 = 95"},
		"grace of a profile":    {"{terminationGracePeriodSeconds: 95, loadBalancer: {profile: nlb}}", "preStop 120 + drain 45 + shutdown 30 + 10 = 205"},
		"too much grace":        {"{drain: {timeoutSeconds: 551}}", "would have 601 seconds to end (preStop 10 + drain 551 + shutdown 30 + 10 = 601), and 600 are the most"},
		"too much, given":       {"{terminationGracePeriodSeconds: 700}", "would have 700 seconds"},
		"autoscaled file":       {"{mode: file, autoscaling: {enabled: true}}", "with mode file there is one node"},
		"min above max":         {"{autoscaling: {enabled: true, minReplicas: 11}}", "11 is more than maxReplicas, 10"},
		"no target":             {"{autoscaling: {enabled: true, targetCPUUtilizationPercentage: 0, targetConnections: 0}}", "there is nothing to scale by"},
		"a share of nothing":    {"{autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}", "it is a share of resources.requests.cpu, which is not set"},
		"an Ingress for all":    {"{ingress: {enabled: true}}", "Name at least one"},
		"a route to nowhere":    {"{httpRoute: {enabled: true}}", "an HTTPRoute without a Gateway does nothing"},
		"a secret as a setting": {"{settings: {auth-jwt-secret: abc}}", "a secret does not belong in a ConfigMap"},
		"a URL as a setting":    {"{settings: {redis-url: 'redis://redis'}}", "a secret does not belong in a ConfigMap"},
		"a key as a setting":    {"{settings: {gossip-key: abc}}", "a secret does not belong in a ConfigMap"},
		"drain as a setting":    {"{settings: {drain-timeout: 60s}}", "set drain.timeoutSeconds"},
		"drain as a variable":   {"{extraEnv: [{name: WEFT_DRAIN_TIMEOUT, value: 60s}]}", "set drain.timeoutSeconds"},
		"drain as an argument":  {"{extraArgs: [--drain-timeout=60s]}", "set drain.timeoutSeconds"},
		"a port as an argument": {"{extraArgs: [--listen, ':80']}", "set service.port"},
		"start as a variable":   {"{extraEnv: [{name: WEFT_START_TIMEOUT, value: 5m}]}", "put it into settings"},
		"a start for ever":      {"{settings: {start-timeout: soon}}", `"soon" is not a duration`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := install(merge(parse(t, plain), parse(t, c.values)))
			if err == nil {
				t.Fatal("installs")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("says\n%v\nwithout\n%s", err, c.want)
			}
		})
	}
}

// TestSchemaRefuses lists what the schema refuses, by the place that it names.
func TestSchemaRefuses(t *testing.T) {
	for bad, place := range map[string]string{
		"{replicas: 3}":                                   "'replicas'",
		"{replicaCount: '3'}":                             "/replicaCount",
		"{replicaCount: -1}":                              "/replicaCount",
		"{mode: standalone}":                              "/mode",
		"{image: {digest: abc}}":                          "/image/digest",
		"{image: {pullPolicy: Sometimes}}":                "/image/pullPolicy",
		"{image: {tga: v1}}":                              "'tga'",
		"{auth: {jwtSecret: abc}}":                        "'jwtSecret'",
		"{auth: {existingSecret: Weft_Auth}}":             "/auth/existingSecret",
		"{auth: {jwksUrl: 'ftp://x'}}":                    "/auth/jwksUrl",
		"{auth: {webhookUrl: 'https://me:secret@app/x'}}": "/auth/webhookUrl",
		"{redis: {url: 'redis://x'}}":                     "'url'",
		"{redis: {embedded: {persistence: {size: big}}}}": "/redis/embedded/persistence/size",
		"{settings: {saveInterval: 1s}}":                  "'saveInterval'",
		"{settings: {save-interval: {seconds: 1}}}":       "/settings/save-interval",
		"{settings: [dev]}":                               "/settings",
		"{preStopSeconds: 10s}":                           "/preStopSeconds",
		"{terminationGracePeriodSeconds: '95'}":           "/terminationGracePeriodSeconds",
		"{drain: {timeoutSeconds: 0}}":                    "/drain/timeoutSeconds",
		"{drain: {rate: 0}}":                              "/drain/rate",
		"{loadBalancer: {profile: elb}}":                  "/loadBalancer/profile",
		"{service: {port: 0}}":                            "/service/port",
		"{service: {type: ExternalName}}":                 "/service/type",
		"{podDisruptionBudget: {minAvailable: 1}}":        "'minAvailable'",
		"{podDisruptionBudget: {maxUnavailable: 0}}":      "/podDisruptionBudget/maxUnavailable",
		"{podDisruptionBudget: {maxUnavailable: '0%'}}":   "/podDisruptionBudget/maxUnavailable",
		"{ingress: {hosts: [{paths: [{path: /}]}]}}":      "/ingress/hosts/0",
		"{ingress: {hosts: [canvas.example.com]}}":        "/ingress/hosts/0",
		"{extraEnv: {A: b}}":                              "/extraEnv",
		"{serviceMonitor: true}":                          "/serviceMonitor",
		"{podLabels: {a: 1}}":                             "/podLabels/a",
		"{fullnameOverride: weft.prod}":                   "/fullnameOverride", // no Service may be called so
		"{fullnameOverride: 2weft}":                       "/fullnameOverride",
		"{nameOverride: my.weft}":                         "/nameOverride",
	} {
		_, err := install(merge(parse(t, plain), parse(t, bad)))
		if err == nil {
			t.Errorf("takes %s", bad)
		} else if !strings.Contains(err.Error(), "schema") || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: says\n%v\nwithout %s", bad, err, place)
		}
	}
	for _, good := range []string{
		"{global: {anything: 1}, enabled: true}",
		"{preStopSeconds: null, terminationGracePeriodSeconds: null}",
		"{preStopSeconds: '', terminationGracePeriodSeconds: '', autoscaling: {targetConnections: ''}}",
		"{podDisruptionBudget: {maxUnavailable: 25%}}",
		"{settings: {max-connections: 5000, allowed-origins: ['https://a.example.com'], pprof: true, gather: null}}",
	} {
		if _, err := install(merge(parse(t, plain), parse(t, good))); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
