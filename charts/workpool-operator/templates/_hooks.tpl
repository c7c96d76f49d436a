{{- /* The account of a hook and its annotations, so that both exist before its Job; with the operator's
own account nothing is made: takes root, name and event. */}}
{{- define "workpool-operator.hookAnnotations" -}}
helm.sh/hook: {{ .event }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-weight: {{ .weight | quote }}
{{- end }}

{{- define "workpool-operator.hookAccount" -}}
{{- if .root.Values.rbac.create }}{{ .name }}{{ else }}{{ include "workpool-operator.serviceAccount" .root }}{{ end }}
{{- end }}

{{- /* Takes root, name, event, container and args. */}}
{{- define "workpool-operator.hookJob" }}
---
apiVersion: batch/v1
kind: Job
{{- $annotations := include "workpool-operator.hookAnnotations" (merge (dict "weight" "0") .) | fromYaml }}
{{- include "workpool-operator.metadata" (dict "root" .root "name" .name "namespace" .root.Release.Namespace "annotations" $annotations) }}
spec:
  backoffLimit: 2
  template:
    metadata:
      labels: {{- include "workpool-operator.hookPodLabels" .root | nindent 8 }}
      {{- with merge (dict) (.root.Values.podAnnotations | default dict) (.root.Values.commonAnnotations | default dict) }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "workpool-operator.hookAccount" . }}
      {{- include "workpool-operator.podSettings" .root | nindent 6 }}
      containers:
        - name: {{ .container }}
          {{- include "workpool-operator.containerSettings" .root | nindent 10 }}
          args: {{- toYaml .args | nindent 12 }}
{{- end }}

{{- /* Takes root, name and event. */}}
{{- define "workpool-operator.hookServiceAccount" }}
---
apiVersion: v1
kind: ServiceAccount
{{- $annotations := include "workpool-operator.hookAnnotations" (merge (dict "weight" "-2") .) | fromYaml }}
{{- include "workpool-operator.metadata" (dict "root" .root "name" .name "namespace" .root.Release.Namespace "annotations" (merge $annotations (.root.Values.serviceAccount.annotations | default dict))) }}
{{- end }}

{{- /* A role of a hook and its grant: takes root, name, event, rules and namespace; without a namespace
it is a ClusterRole. */}}
{{- define "workpool-operator.hookRole" }}
{{- $annotations := include "workpool-operator.hookAnnotations" (merge (dict "weight" "-1") .) | fromYaml }}
{{- $kind := ternary "Role" "ClusterRole" (not (empty .namespace)) }}
{{- $of := dict "root" .root "name" .name "namespace" .namespace "rules" .rules "annotations" $annotations }}
{{- include "workpool-operator.role" $of }}
{{- include "workpool-operator.grant" (merge (dict "kind" $kind "account" .account) $of) }}
{{- end }}
