{{- define "workpool-operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "workpool-operator.selector" -}}
app.kubernetes.io/name: workpool-operator
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

{{- /* Where bindings are served; as JSON, because a template can return nothing but text. */}}
{{- define "workpool-operator.watchNamespaces" -}}
{{ .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}

{{- define "workpool-operator.jobNamespaces" -}}
{{ .Values.jobNamespaces | default (include "workpool-operator.watchNamespaces" . | fromJsonArray) | toJson }}
{{- end }}

{{- /* The Secrets of a namespace that bindings name for run pods: takes bindings, own (namespace of
the release) and namespace. */}}
{{- define "workpool-operator.namedSecrets" -}}
{{- $names := list }}
{{- range .bindings }}
{{- $jobs := .spec.jobs | default dict }}
{{- if eq $.namespace ($jobs.namespace | default .namespace | default $.own) }}
{{- range $field := list "apiKey" "authString" "headers" "caBundle" }}
{{- with dig $field "secretKeyRef" "name" "" $jobs }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- $names | uniq | toJson }}
{{- end }}

{{- /* What a binding needs the right to write Secrets for, empty if nothing: takes its namespace and
spec. */}}
{{- define "workpool-operator.needsSecrets" -}}
{{- $jobs := .spec.jobs | default dict }}
{{- $server := .spec.server | default dict }}
{{- $named := or $jobs.apiKey $jobs.authString }}
{{- if $jobs.environmentSecret }}spec.jobs.environmentSecret
{{- else if and $server.headers (not $jobs.headers) (not $jobs.serverURL) }}a copy of spec.server.headers (or name a Secret there: spec.jobs.headers)
{{- else if and $jobs.namespace (ne $jobs.namespace .namespace) }}
{{- if and (not $named) (or $server.apiKey $server.authString) }}
{{- range $field := list "apiKey" "authString" }}
{{- if hasKey $server $field }}a copy of spec.server.{{ $field }} (or name a Secret there: spec.jobs.{{ $field }}){{ end }}
{{- end }}
{{- else if and $server.caBundle (not $jobs.caBundle) (hasPrefix "https:" ($jobs.serverURL | default $server.url | default "https:")) }}a copy of spec.server.caBundle (or name what is there: spec.jobs.caBundle)
{{- end }}
{{- end }}
{{- end }}

{{- /* Gives a Role of a namespace to the operator: takes release, role and namespace. */}}
{{- define "workpool-operator.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .role }}
  namespace: {{ .namespace }}
  labels: {{- include "workpool-operator.labels" .release | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .role }}}
subjects:
  - kind: ServiceAccount
    name: {{ include "workpool-operator.name" .release }}
    namespace: {{ .release.Release.Namespace }}
{{- end }}
