{{- /* What the pods of the chart have in common: where they run, and with how few rights. */}}
{{- define "workpool-operator.podSettings" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" "dnsPolicy" }}
{{- with get $.Values $field }}
{{ $field }}: {{ . }}
{{- end }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "dnsConfig" "hostAliases" }}
{{- with get $.Values $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "workpool-operator.volumes" . | fromYamlArray }}
volumes: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "workpool-operator.containerSettings" -}}
image: {{ include "workpool-operator.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
env: {{- include "workpool-operator.environment" . | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "workpool-operator.volumeMounts" . | fromYamlArray }}
volumeMounts: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "workpool-operator.environment" -}}
- {name: WORKPOOL_OPERATOR_LOG_LEVEL, value: {{ .Values.log.level }}}
- {name: WORKPOOL_OPERATOR_LOG_FORMAT, value: {{ .Values.log.format }}}
# Messages about missing rights then name the values of this release.
- {name: WORKPOOL_OPERATOR_HELM_RELEASE, value: {{ .Release.Namespace }}/{{ .Release.Name }}}
{{- if .Values.rbac.create }}
- {name: WORKPOOL_OPERATOR_HELM_WATCH_NAMESPACES, value: {{ include "workpool-operator.watchNamespaces" . | fromJsonArray | join "," | quote }}}
- {name: WORKPOOL_OPERATOR_HELM_JOB_NAMESPACES, value: {{ include "workpool-operator.jobNamespaces" . | fromJsonArray | join "," | quote }}}
{{- end }}
# A replica's Lease is deleted with its pod.
- name: WORKPOOL_OPERATOR_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: WORKPOOL_OPERATOR_POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
{{- $set := dict "WORKPOOL_OPERATOR_LOG_LEVEL" "log.level" "WORKPOOL_OPERATOR_LOG_FORMAT" "log.format" }}
{{- range $variable := list "PORT" "TLS_DIR" "TOKEN_FILE" }}
{{- $_ := set $set (printf "WORKPOOL_OPERATOR_METRICS_%s" $variable) "metrics" }}
{{- end }}
{{- range $variable, $value := dict "HTTP_PROXY" "http" "HTTPS_PROXY" "https" "NO_PROXY" "noProxy" }}
{{- with get ($.Values.proxy | default dict) $value }}
{{- $_ := set $set $variable (printf "proxy.%s" $value) }}
- {name: {{ $variable }}, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret }}
{{- $_ := set $set "SSL_CERT_FILE" "caBundle" }}
- {name: SSL_CERT_FILE, value: {{ printf "/etc/workpool-operator/ca/%s" .Values.caBundle.key }}}
{{- end }}
{{- if .servesMetrics }}
{{- with .Values.metrics }}
- {name: WORKPOOL_OPERATOR_METRICS_PORT, value: {{ .port | quote }}}
{{- if .tlsSecret }}
- {name: WORKPOOL_OPERATOR_METRICS_TLS_DIR, value: /etc/workpool-operator/metrics-tls}
{{- end }}
{{- if .token.secret }}
- {name: WORKPOOL_OPERATOR_METRICS_TOKEN_FILE, value: {{ printf "/etc/workpool-operator/metrics-token/%s" .token.key }}}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.tracing.enabled }}
{{- $_ := set $set "WORKPOOL_OPERATOR_TRACING" "tracing.enabled" }}
- {name: WORKPOOL_OPERATOR_TRACING, value: "true"}
{{- with .Values.tracing.endpoint }}
{{- $_ := set $set "OTEL_EXPORTER_OTLP_ENDPOINT" "tracing.endpoint" }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if eq .name "WORKPOOL_OPERATOR_HEALTH_PORT" }}
{{- fail (printf "extraEnv sets %s: leave it out, because the probes call port 8080" .name) }}
{{- end }}
{{- if hasKey $set .name }}
{{- fail (printf "extraEnv sets %s, which the chart sets already: use the value %s" .name (get $set .name)) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "workpool-operator.volumes" -}}
{{- with .Values.caBundle }}
{{- if and .configMap .secret }}
{{- fail "caBundle names a ConfigMap and a Secret: set caBundle.configMap or caBundle.secret" }}
{{- end }}
{{- with .configMap }}
- {name: ca-bundle, configMap: {name: {{ . }}}}
{{- end }}
{{- with .secret }}
- {name: ca-bundle, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}
{{- if .servesMetrics }}
{{- with .Values.metrics.tlsSecret }}
- {name: metrics-tls, secret: {secretName: {{ . }}}}
{{- end }}
{{- with .Values.metrics.token.secret }}
- {name: metrics-token, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "workpool-operator.volumeMounts" -}}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret }}
- {name: ca-bundle, mountPath: /etc/workpool-operator/ca, readOnly: true}
{{- end }}
{{- if .servesMetrics }}
{{- if .Values.metrics.tlsSecret }}
- {name: metrics-tls, mountPath: /etc/workpool-operator/metrics-tls, readOnly: true}
{{- end }}
{{- if .Values.metrics.token.secret }}
- {name: metrics-token, mountPath: /etc/workpool-operator/metrics-token, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
