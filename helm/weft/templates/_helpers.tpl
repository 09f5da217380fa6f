{{- define "weft.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 46 | trimSuffix "-" }}
{{- end }}

{{/* The full name leaves room for the suffixes and for what a StatefulSet adds to make labels, which end at 63. */}}
{{- define "weft.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- /* A release's name may have dots, a Service's may not. */}}
{{- $release := .Release.Name | replace "." "-" }}
{{- if contains $name $release }}
{{- $release | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" $release $name | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "weft.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "weft.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "weft.image" -}}
{{- with .Values.image }}
{{- $repository := .repository }}
{{- if .registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .registry) .repository }}{{ end }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels of an object: a dict of root and component. A Service must select one component only. */}}
{{- define "weft.selectorLabels" -}}
app.kubernetes.io/name: {{ include "weft.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "weft.labels" -}}
{{- $labels := fromYaml (include "weft.selectorLabels" .) }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $labels "app.kubernetes.io/part-of" "weft" }}
{{- $_ := set $labels "app.kubernetes.io/version" (.root.Chart.AppVersion | trunc 63) }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) }}
{{- toYaml (merge $labels (deepCopy (.extra | default dict)) (deepCopy .root.Values.commonLabels)) }}
{{- end }}

{{/* metadata of an object: a dict of root, component, and perhaps suffix, annotations and extra labels. */}}
{{- define "weft.metadata" -}}
name: {{ include "weft.fullname" .root }}{{ .suffix | default "" }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "weft.labels" . | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "weft.clustered" -}}
{{- if eq .Values.mode "cluster" }}true{{ end }}
{{- end }}

{{- define "weft.embeddedRedis" -}}
{{- if and (eq .Values.mode "cluster") .Values.redis.embedded.enabled }}true{{ end }}
{{- end }}

{{/* More than one node may run at a time. */}}
{{- define "weft.several" -}}
{{- if and (eq .Values.mode "cluster") (or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1)) }}true{{ end }}
{{- end }}

{{/* A duration as Weft writes it, such as 1m30s, in whole seconds, rounded up. */}}
{{- define "weft.seconds" -}}
{{- $text := toString . }}
{{- if not (regexMatch "^([0-9]+([.][0-9]+)?(ms|h|m|s))+$" $text) }}
{{- fail (printf "settings.start-timeout: %q is not a duration, such as 90s or 1m30s." $text) }}
{{- end }}
{{- $sum := 0.0 }}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 }}
{{- range regexFindAll "[0-9]+([.][0-9]+)?(ms|h|m|s)" $text -1 }}
{{- $sum = addf $sum (mulf (float64 (regexFind "^[0-9.]+" .)) (get $units (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- int (ceil $sum) }}
{{- end }}

{{/* Seconds in which a pod must be ready after its start. */}}
{{- define "weft.startupSeconds" -}}
{{- add 30 (int (include "weft.seconds" (get .Values.settings "start-timeout" | default "60s"))) }}
{{- end }}
