{{- define "workpool-operator.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Of all objects; short enough for the suffixes of hooks. */}}
{{- define "workpool-operator.fullname" -}}
{{- $name := include "workpool-operator.name" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Of objects without a namespace. */}}
{{- define "workpool-operator.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "workpool-operator.fullname" .) }}
{{- end }}

{{- define "workpool-operator.serviceAccount" -}}
{{- $name := .Values.serviceAccount.name }}
{{- if not (or $name .Values.serviceAccount.create) }}
{{- fail "serviceAccount.create is false: name an existing account in serviceAccount.name" }}
{{- end }}
{{- $name | default (include "workpool-operator.fullname" .) }}
{{- end }}

{{- define "workpool-operator.selector" -}}
app.kubernetes.io/name: {{ include "workpool-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of every object; those of the chart win over commonLabels. */}}
{{- define "workpool-operator.labels" -}}
{{- $own := include "workpool-operator.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- toYaml (merge $own (.Values.commonLabels | default dict)) }}
{{- end }}

{{- define "workpool-operator.podLabels" -}}
{{- toYaml (merge (include "workpool-operator.labels" . | fromYaml) (.Values.podLabels | default dict)) }}
{{- end }}

{{- /* Of a hook's pod: no Service, budget or Deployment selects it. */}}
{{- define "workpool-operator.hookPodLabels" -}}
{{- $own := dict "app.kubernetes.io/name" (include "workpool-operator.hook" .) }}
{{- toYaml (merge $own (include "workpool-operator.podLabels" . | fromYaml)) }}
{{- end }}

{{- define "workpool-operator.hook" -}}
{{ printf "%s-hook" (include "workpool-operator.name" . | trunc 58) }}
{{- end }}

{{- /* The start of every object: takes root, name, and, if it has them, namespace, labels and
annotations. */}}
{{- define "workpool-operator.metadata" -}}
{{- $labels := merge (include "workpool-operator.labels" .root | fromYaml) (.labels | default dict) }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- toYaml $labels | nindent 4 }}
  {{- with merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "workpool-operator.image" -}}
{{- $registry := dig "imageRegistry" "" (.Values.global | default dict) | default .Values.image.registry }}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}
{{- else }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* Where bindings are served; as JSON, because a template can return nothing but text. */}}
{{- define "workpool-operator.watchNamespaces" -}}
{{- if .Values.clusterWide }}
{{- if .Values.watchNamespaces }}
{{- fail "clusterWide serves every namespace: leave watchNamespaces empty, or set clusterWide to false" }}
{{- end }}
{{- list | toJson }}
{{- else }}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}
{{- end }}

{{- define "workpool-operator.jobNamespaces" -}}
{{ .Values.jobNamespaces | default (include "workpool-operator.watchNamespaces" . | fromJsonArray) | toJson }}
{{- end }}
