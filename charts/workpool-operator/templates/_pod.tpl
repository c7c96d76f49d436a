{{- /* What the pods of the chart have in common: where they run, and with how few rights. */}}
{{- define "workpool-operator.podSettings" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
volumes: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "workpool-operator.containerSettings" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- with .Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "workpool-operator.environment" . }}
{{- with .Values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
volumeMounts: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "workpool-operator.environment" }}
env:
  - {name: WORKPOOL_OPERATOR_LOG_LEVEL, value: {{ .Values.log.level }}}
  - {name: WORKPOOL_OPERATOR_LOG_FORMAT, value: {{ .Values.log.format }}}
  # Messages about missing rights then name the values of this release.
  - {name: WORKPOOL_OPERATOR_HELM_RELEASE, value: {{ .Release.Namespace }}/{{ .Release.Name }}}
  # A replica's Lease is deleted with its pod.
  - name: WORKPOOL_OPERATOR_POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: WORKPOOL_OPERATOR_POD_UID
    valueFrom: {fieldRef: {fieldPath: metadata.uid}}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $values := dict "WORKPOOL_OPERATOR_LOG_LEVEL" "log.level" "WORKPOOL_OPERATOR_LOG_FORMAT" "log.format" }}
{{- range .Values.extraEnv }}
{{- if hasKey $values .name }}
{{- fail (printf "extraEnv sets %s, which the chart sets already: use the value %s" .name (get $values .name)) }}
{{- end }}
{{- end }}
{{- end }}
