{{/* A setting's text as the configuration file has it: a large number must not become 1e+06. */}}
{{- define "weft.settingText" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . | toString | quote }}{{ else }}{{ toString . | quote }}{{ end }}
{{- end }}

{{- define "weft.settings" -}}
{{- range $name, $value := .Values.settings }}
{{- if kindIs "slice" $value }}
{{ $name }}:
{{- range $value }}
  - {{ include "weft.settingText" . }}
{{- end }}
{{- else if not (kindIs "invalid" $value) }}
{{ $name }}: {{ include "weft.settingText" $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* What Weft's pods have of the Secrets: env, mounts and volumes. The files change when the Secrets do. */}}
{{- define "weft.secrets" -}}
{{- $v := .Values }}
{{- with $v.auth.existingSecret }}
- name: auth
  secret: {{ . }}
  keys:
    WEFT_AUTH_JWT_SECRET_FILE: {{ $v.auth.jwtSecretKey }}
{{- end }}
{{- if include "weft.clustered" . }}
{{- if include "weft.embeddedRedis" . }}
- name: redis
  secret: {{ include "weft.fullname" . }}-redis
  keys:
    WEFT_REDIS_URL_FILE: redis-url
{{- else if $v.redis.existingSecret }}
- name: redis
  secret: {{ $v.redis.existingSecret }}
  keys:
    WEFT_REDIS_URL_FILE: {{ $v.redis.urlKey }}
    {{- with $v.redis.caKey }}
    WEFT_REDIS_CA_FILE: {{ . }}
    {{- end }}
{{- end }}
{{- with $v.gossip.existingSecret }}
- name: gossip
  secret: {{ . }}
  keys:
    WEFT_GOSSIP_KEY_FILE: {{ $v.gossip.key }}
{{- end }}
{{- end }}
{{- with $v.api.existingSecret }}
- name: api
  secret: {{ . }}
  keys:
    "": {{ $v.api.key }}
{{- end }}
{{- end }}

{{- define "weft.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range $_, $key := .keys }}
      - key: {{ $key }}
        path: {{ $key }}
      {{- end }}
{{- end }}

{{- define "weft.podTemplate" -}}
{{- $v := .Values }}
{{- $secrets := fromYamlArray (include "weft.secrets" .) }}
{{- $self := dict "root" . "component" "server" }}
metadata:
  labels:
    {{- include "weft.labels" (dict "root" . "component" "server" "extra" $v.podLabels) | nindent 4 }}
  annotations:
    {{- /* The chart's own wins: without it, pods would not restart when settings change. */}}
    {{- toYaml (merge (dict "checksum/settings" (include "weft.settings" . | sha256sum)) (deepCopy $v.podAnnotations)) | nindent 4 }}
spec:
  serviceAccountName: {{ include "weft.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Variables about Services would look like settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "weft.graceSeconds" . }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: weft
      image: {{ include "weft.image" . | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        - serve
        {{- range $v.extraArgs }}
        - {{ toString . | quote }}
        {{- end }}
      env:
        - name: WEFT_CONFIG
          value: /etc/weft/config/weft.yaml
        - name: WEFT_LISTEN
          value: ":8080"
        - name: WEFT_ADMIN_LISTEN
          value: ":9090"
        - name: WEFT_DRAIN_TIMEOUT
          value: {{ int $v.drain.timeoutSeconds }}s
        - name: WEFT_DRAIN_RATE
          value: {{ int $v.drain.rate | quote }}
        - name: WEFT_SHUTDOWN_TIMEOUT
          value: {{ int $v.shutdownTimeoutSeconds }}s
        {{- if include "weft.clustered" . }}
        - name: WEFT_NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: WEFT_GOSSIP_LISTEN
          value: ":7946"
        - name: WEFT_GOSSIP_ADVERTISE
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: WEFT_PEER_LISTEN
          value: ":7947"
        - name: WEFT_PEER_ADVERTISE
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: WEFT_JOIN
          value: {{ include "weft.fullname" . }}-gossip.{{ .Release.Namespace }}.svc:7946
        {{- else }}
        - name: WEFT_STORE
          value: file
        - name: WEFT_DATA_DIR
          value: /data
        {{- end }}
        {{- range $secret := $secrets }}
        {{- range $variable, $key := $secret.keys }}
        {{- if $variable }}
        - name: {{ $variable }}
          value: /etc/weft/{{ $secret.name }}/{{ $key }}
        {{- end }}
        {{- end }}
        {{- end }}
        {{- with $v.auth.jwksUrl }}
        - name: WEFT_AUTH_JWKS_URL
          value: {{ . | quote }}
        {{- end }}
        {{- with $v.auth.webhookUrl }}
        - name: WEFT_AUTH_WEBHOOK_URL
          value: {{ . | quote }}
        {{- end }}
        {{- with $v.auth.issuer }}
        - name: WEFT_AUTH_ISSUER
          value: {{ . | quote }}
        {{- end }}
        {{- with $v.auth.audience }}
        - name: WEFT_AUTH_AUDIENCE
          value: {{ . | quote }}
        {{- end }}
        {{- with $v.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: client
          containerPort: 8080
        - name: admin
          containerPort: 9090
        {{- if include "weft.clustered" . }}
        - name: gossip
          containerPort: 7946
        - name: gossip-udp
          containerPort: 7946
          protocol: UDP
        - name: peer
          containerPort: 7947
        {{- end }}
      {{- with int (include "weft.preStopSeconds" .) }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ . }}
      {{- end }}
      # Longer than --start-timeout, after which Weft gives up by itself.
      startupProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: {{ div (add 1 (int (include "weft.startupSeconds" .))) 2 }}
      # 15 seconds, so that a Redis that is away for a moment does not empty the Service.
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 3
      # It does not depend on Redis: a restart would not mend that.
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      {{- with $v.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/weft/config
          readOnly: true
        {{- range $secrets }}
        - name: {{ .name }}
          mountPath: /etc/weft/{{ .name }}
          readOnly: true
        {{- end }}
        {{- if not (include "weft.clustered" .) }}
        - name: data
          mountPath: /data
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $v.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "weft.fullname" . }}
    {{- range $secrets }}
    {{- include "weft.secretVolume" . | nindent 4 }}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $constraint := deepCopy . }}
    {{- if not .labelSelector }}
    {{- $_ := set $constraint "labelSelector" (dict "matchLabels" (fromYaml (include "weft.selectorLabels" $self))) }}
    {{- if and (include "weft.clustered" $) (not .matchLabelKeys) }}
    {{- /* Old pods, which are there until the new ones are ready, do not count. */}}
    {{- $_ := set $constraint "matchLabelKeys" (list "pod-template-hash") }}
    {{- end }}
    {{- end }}
    {{- list $constraint | toYaml | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}
