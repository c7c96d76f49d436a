{{- define "workpool-operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "workpool-operator.selector" -}}
app.kubernetes.io/name: workpool-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "workpool-operator.labels" -}}
{{ include "workpool-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Where bindings are served; as JSON, because a template can return nothing but text. */}}
{{- define "workpool-operator.watchNamespaces" -}}
{{ .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}

{{- define "workpool-operator.jobNamespaces" -}}
{{ .Values.jobNamespaces | default (include "workpool-operator.watchNamespaces" . | fromJsonArray) | toJson }}
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
