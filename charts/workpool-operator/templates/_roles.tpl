{{- /* A Role, or a ClusterRole without a namespace, and what binds it to the operator: takes root,
name, rules (a template of _rules.tpl) and namespace; more is YAML of further rules. */}}
{{- define "workpool-operator.role" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespace }}Role{{ else }}ClusterRole{{ end }}
{{- include "workpool-operator.metadata" . }}
rules: {{- include (printf "workpool-operator.rules.%s" .rules) .root }}
{{- with .more }}
{{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Takes root, name, namespace, kind (of the role) and, unless it has the same name, role; account
if it is not the operator's; annotations of a hook. */}}
{{- define "workpool-operator.grant" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
{{- include "workpool-operator.metadata" . }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ .kind }}, name: {{ .role | default .name }}}
subjects:
  - kind: ServiceAccount
    name: {{ .account | default (include "workpool-operator.serviceAccount" .root) }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{- /* Lets the operator read the objects that bindings of the values name for run pods in a namespace:
takes root and namespace. */}}
{{- define "workpool-operator.namedRules" -}}
{{- $of := dict "bindings" .root.Values.bindings "own" .root.Release.Namespace "namespace" .namespace }}
{{- range $resource, $reference := dict "secrets" "secretKeyRef" "configmaps" "configMapKeyRef" }}
{{- with include "workpool-operator.named" (merge (dict "reference" $reference) $of) | fromJsonArray }}
# check those that bindings name for run pods
- apiGroups: [""]
  resources: [{{ $resource }}]
  resourceNames: {{- toYaml . | nindent 4 }}
  verbs: [get]
{{- end }}
{{- end }}
{{- end }}
