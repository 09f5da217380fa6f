{{/*
How a pod ends: preStop (load balancers stop sending clients), then drain and
shutdown, which Weft does, and 10 seconds for what is slower than it should be.
*/}}
{{- define "weft.preStopSeconds" -}}
{{- if or (kindIs "invalid" .Values.preStopSeconds) (kindIs "string" .Values.preStopSeconds) }}
{{- include "weft.profilePreStopSeconds" . }}
{{- else }}
{{- int .Values.preStopSeconds }}
{{- end }}
{{- end }}

{{- define "weft.profilePreStopSeconds" -}}
{{- get (dict "alb" 30 "nlb" 120 "gke" 60 "envoy" 15 "nginx" 15) .Values.loadBalancer.profile | default 10 }}
{{- end }}

{{/* How long a load balancer must leave the sockets of a target alone that is being deregistered: until Weft has closed them. */}}
{{- define "weft.deregistrationSeconds" -}}
{{- add (int (include "weft.preStopSeconds" .)) (int .Values.drain.timeoutSeconds) 15 }}
{{- end }}

{{- define "weft.computedGraceSeconds" -}}
{{- add (int (include "weft.preStopSeconds" .)) (int .Values.drain.timeoutSeconds) (int .Values.shutdownTimeoutSeconds) 10 }}
{{- end }}

{{- define "weft.graceSeconds" -}}
{{- $sum := printf "preStop %s + drain %d + shutdown %d + 10" (include "weft.preStopSeconds" .) (int .Values.drain.timeoutSeconds) (int .Values.shutdownTimeoutSeconds) }}
{{- $computed := int (include "weft.computedGraceSeconds" .) }}
{{- $grace := $computed }}
{{- if .Values.terminationGracePeriodSeconds }}
{{- $grace = int .Values.terminationGracePeriodSeconds }}
{{- if lt $grace $computed }}
{{- fail (printf "terminationGracePeriodSeconds: %d seconds are less than a pod may need to end, which is %s = %d: Kubernetes would kill it while it drains. Leave it empty, or shorten one of its parts." $grace $sum $computed) }}
{{- end }}
{{- end }}
{{- if gt $grace 600 }}
{{- fail (printf "A pod would have %d seconds to end (%s = %d), and 600 are the most: the drain of a machine does not wait longer. Shorten preStopSeconds, drain.timeoutSeconds or shutdownTimeoutSeconds." $grace $sum $computed) }}
{{- end }}
{{- $grace }}
{{- end }}

{{/*
The annotations that each kind of load balancer needs; the chart's README says why.
Those that the user sets win.
*/}}
{{- define "weft.profile" -}}
{{- $profile := .Values.loadBalancer.profile }}
{{- if eq $profile "alb" }}
ingress:
  alb.ingress.kubernetes.io/target-type: ip
  alb.ingress.kubernetes.io/load-balancer-attributes: idle_timeout.timeout_seconds=120
  alb.ingress.kubernetes.io/target-group-attributes: deregistration_delay.timeout_seconds={{ include "weft.deregistrationSeconds" . }}
  alb.ingress.kubernetes.io/success-codes: 200,426
{{- else if eq $profile "nlb" }}
service:
  service.beta.kubernetes.io/aws-load-balancer-type: external
  service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip
  service.beta.kubernetes.io/aws-load-balancer-target-group-attributes: deregistration_delay.timeout_seconds={{ include "weft.deregistrationSeconds" . }},target_health_state.unhealthy.connection_termination.enabled=false
  service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol: tcp
{{- else if eq $profile "gke" }}
service:
  cloud.google.com/neg: '{"ingress": true}'
{{- else if eq $profile "envoy" }}
ingress:
  projectcontour.io/websocket-routes: /
  projectcontour.io/response-timeout: infinity
{{- else if eq $profile "nginx" }}
ingress:
  nginx.ingress.kubernetes.io/proxy-read-timeout: "3600"
  nginx.ingress.kubernetes.io/proxy-send-timeout: "3600"
{{- end }}
{{- end }}
