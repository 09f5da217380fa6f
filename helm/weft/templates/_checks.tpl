{{/*
What no schema can say: rules between values, each refused with a sentence that
says what to do.
*/}}

{{/* The settings that have a value of their own in this chart, or that the chart must know. */}}
{{- define "weft.reservedSettings" -}}
listen: the chart's ports are fixed; set service.port
admin-listen: the chart's ports are fixed; set admin.service.port
gossip-listen: the chart's ports are fixed
gossip-advertise: it is the address of the pod
peer-listen: the chart's ports are fixed
peer-advertise: it is the address of the pod
node-name: it is the name of the pod
join: it is the release's gossip Service
store: set mode
data-dir: the volume of mode file is mounted at /data
drain-timeout: set drain.timeoutSeconds, from which the chart computes how long a pod may take to end
drain-rate: set drain.rate
shutdown-timeout: set shutdownTimeoutSeconds, from which the chart computes how long a pod may take to end
auth-jwks-url: set auth.jwksUrl
auth-webhook-url: set auth.webhookUrl
auth-issuer: set auth.issuer
auth-audience: set auth.audience
auth-jwt-secret: a secret does not belong in a ConfigMap; put it into a Secret and name that in auth.existingSecret
auth-jwt-secret-file: set auth.existingSecret and auth.jwtSecretKey
gossip-key: a secret does not belong in a ConfigMap; put it into a Secret and name that in gossip.existingSecret
gossip-key-file: set gossip.existingSecret and gossip.key
redis-url: a secret does not belong in a ConfigMap; put it into a Secret and name that in redis.existingSecret
redis-url-file: set redis.existingSecret and redis.urlKey
redis-ca-file: set redis.existingSecret and redis.caKey
config: the chart makes the file
{{- end }}

{{/* What extraEnv and extraArgs may not set, since the chart's arithmetic and Services would be wrong. */}}
{{- define "weft.fixedSettings" -}}
[listen, admin-listen, gossip-listen, gossip-advertise, peer-listen, peer-advertise, node-name, join, store, data-dir, drain-timeout, drain-rate, shutdown-timeout, start-timeout, config]
{{- end }}

{{/* The name of a setting if an extra variable or argument sets it, "" if none does: a dict of root and settings. */}}
{{- define "weft.setOutside" -}}
{{- $root := .root }}
{{- $found := "" }}
{{- range $name := .settings }}
{{- range $root.Values.extraEnv }}
{{- if eq .name (printf "WEFT_%s" ($name | upper | replace "-" "_")) }}{{ $found = $name }}{{ end }}
{{- end }}
{{- range $root.Values.extraArgs }}
{{- if regexMatch (printf "^--?%s(=|$)" $name) (toString .) }}{{ $found = $name }}{{ end }}
{{- end }}
{{- end }}
{{- $found }}
{{- end }}

{{- define "weft.check" -}}
{{- $v := .Values }}
{{- $reserved := fromYaml (include "weft.reservedSettings" .) }}
{{- range $name, $_ := $v.settings }}
{{- if hasKey $reserved $name }}
{{- fail (printf "settings.%s: %s." $name (get $reserved $name)) }}
{{- end }}
{{- end }}
{{- $fixed := fromYamlArray (include "weft.fixedSettings" .) }}
{{- with include "weft.setOutside" (dict "root" . "settings" $fixed) }}
{{- fail (printf "extraEnv, extraArgs: %s is set by the chart: %s." . (get $reserved . | default "put it into settings")) }}
{{- end }}
{{- include "weft.checkAuth" . }}
{{- if include "weft.clustered" . }}
{{- include "weft.checkRedis" . }}
{{- else if $v.autoscaling.enabled }}
{{- fail "autoscaling.enabled: with mode file there is one node, since no other can have its files. Set mode: cluster, or no autoscaling." }}
{{- end }}
{{- if $v.autoscaling.enabled }}
{{- include "weft.checkAutoscaling" . }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}
{{- fail "ingress.hosts: an Ingress without a host would take everybody's clients. Name at least one: [{host: canvas.example.com, paths: [{path: /, pathType: Prefix}]}]." }}
{{- end }}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: an HTTPRoute without a Gateway does nothing. Name at least one: [{name: my-gateway}]." }}
{{- end }}
{{- $_ := include "weft.graceSeconds" . }}
{{- end }}

{{- define "weft.checkAuth" -}}
{{- $a := .Values.auth }}
{{- $outside := include "weft.setOutside" (dict "root" . "settings" (list "auth-jwt-secret" "auth-jwt-secret-file" "auth-jwks-url" "auth-public-key-file" "auth-webhook-url" "dev")) }}
{{- $dev := eq (toString (get .Values.settings "dev")) "true" }}
{{- $kinds := list }}
{{- with $a.existingSecret }}{{ $kinds = append $kinds "auth.existingSecret" }}{{ end }}
{{- with $a.jwksUrl }}{{ $kinds = append $kinds "auth.jwksUrl" }}{{ end }}
{{- with $a.webhookUrl }}{{ $kinds = append $kinds "auth.webhookUrl" }}{{ end }}
{{- with get .Values.settings "auth-public-key-file" }}{{ $kinds = append $kinds "settings.auth-public-key-file" }}{{ end }}
{{- if $dev }}{{ $kinds = append $kinds "settings.dev" }}{{ end }}
{{- with $outside }}{{ $kinds = append $kinds (printf "%s in extraEnv or extraArgs" .) }}{{ end }}
{{- if not $kinds }}
{{- fail (printf `auth: nothing says who may connect. Create a Secret with what signs the tokens

  kubectl create secret generic weft-auth --namespace %s --from-literal=%s="$(openssl rand -base64 32)"

and name it: --set auth.existingSecret=weft-auth. Or set auth.jwksUrl or auth.webhookUrl.` .Release.Namespace $a.jwtSecretKey) }}
{{- end }}
{{- if gt (len $kinds) 1 }}
{{- fail (printf "auth: %s cannot be set together: it would be a guess which of them decides who may connect." (join " and " $kinds)) }}
{{- end }}
{{- end }}

{{- define "weft.checkRedis" -}}
{{- $r := .Values.redis }}
{{- $outside := include "weft.setOutside" (dict "root" . "settings" (list "redis-url" "redis-url-file")) }}
{{- if not (or $r.existingSecret $r.embedded.enabled $outside) }}
{{- fail (printf `redis: in mode cluster the nodes share rooms through Redis, and nothing says where it is. Create a Secret with its URL

  kubectl create secret generic weft-redis --namespace %s --from-literal=%s='rediss://user:password@host:6379/0'

and name it: --set redis.existingSecret=weft-redis. To try Weft out: --set redis.embedded.enabled=true. For one node that keeps rooms on a volume: --set mode=file.` .Release.Namespace $r.urlKey) }}
{{- end }}
{{- if and $r.existingSecret $r.embedded.enabled }}
{{- fail "redis: existingSecret and embedded.enabled cannot be set together: rooms live in one Redis only." }}
{{- end }}
{{- end }}

{{- define "weft.checkAutoscaling" -}}
{{- $h := .Values.autoscaling }}
{{- if gt (int $h.minReplicas) (int $h.maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas: %d is more than maxReplicas, %d." (int $h.minReplicas) (int $h.maxReplicas)) }}
{{- end }}
{{- if not (or $h.targetCPUUtilizationPercentage $h.targetConnections) }}
{{- fail "autoscaling: set targetCPUUtilizationPercentage or targetConnections: there is nothing to scale by." }}
{{- end }}
{{- if and $h.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" .Values.resources)) }}
{{- fail "autoscaling.targetCPUUtilizationPercentage: it is a share of resources.requests.cpu, which is not set." }}
{{- end }}
{{- end }}
