{{/* What is not safe yet, a paragraph each, for the notes. */}}
{{- define "weft.warnings" -}}
{{- $name := include "weft.fullname" . }}
{{- $v := .Values }}
{{ if eq (toString (get $v.settings "dev")) "true" }}
- settings.dev lets everyone who reaches Weft read and write every room.
{{- end }}
{{- if include "weft.embeddedRedis" . }}
- The embedded Redis is not for production: it is one pod
  {{- if not $v.redis.embedded.persistence.enabled }}, and all rooms are lost with it{{ end }}, and it has no password:
  {{- if $v.networkPolicy.enabled }} only the NetworkPolicy keeps others from the rooms, if the cluster enforces it.
  {{- else }} every pod of this cluster can read and change all rooms.
  {{- end }}
{{- end }}
{{- if and (include "weft.clustered" .) (not $v.gossip.existingSecret) }}
- The gossip of the nodes is not encrypted: whoever reaches port 7946 can take part. Create a key
    kubectl create secret generic {{ $name }}-gossip --namespace {{ .Release.Namespace }} --from-literal={{ $v.gossip.key }}="$(openssl rand -base64 32)"
  and name it in gossip.existingSecret.
{{- end }}
{{- if not (or $v.ingress.tls $v.httpRoute.enabled) }}
- Weft speaks no TLS. Put a load balancer with a certificate in front of it.
{{- end }}
{{- if not (get $v.settings "allowed-origins") }}
- Pages of any origin may connect, given a token. List those that may in settings.allowed-origins.
{{- end }}
{{- if not $v.networkPolicy.enabled }}
- Every pod of this cluster can reach the admin port. networkPolicy.enabled closes it.
{{- end }}
{{- end }}
