{{- /* What the values say about bindings, and what their Jobs need. */}}

{{- /* The namespaces in which a binding creates Jobs: takes own (namespace of the release) and
binding. */}}
{{- define "workpool-operator.targets" -}}
{{- $jobs := .binding.spec.jobs | default dict }}
{{- $first := $jobs.namespace | default .binding.namespace | default .own }}
{{- concat (list $first) ($jobs.allowedNamespaces | default list) | uniq | toJson }}
{{- end }}

{{- /* The names of the objects of a kind, Secret or ConfigMap, that bindings name for run pods in a
namespace: takes bindings, own, namespace and reference (secretKeyRef or configMapKeyRef). */}}
{{- define "workpool-operator.named" -}}
{{- $names := list }}
{{- range .bindings }}
{{- $jobs := .spec.jobs | default dict }}
{{- if has $.namespace (include "workpool-operator.targets" (dict "own" $.own "binding" .) | fromJsonArray) }}
{{- range $field := list "apiKey" "authString" "headers" "caBundle" }}
{{- with dig $field $.reference "name" "" $jobs }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- $names | uniq | sortAlpha | toJson }}
{{- end }}

{{- /* What a binding needs the right to write Secrets for, empty if nothing: takes its namespace,
targets and spec. */}}
{{- define "workpool-operator.needsSecrets" -}}
{{- $jobs := .spec.jobs | default dict }}
{{- $server := .spec.server | default dict }}
{{- $named := or $jobs.apiKey $jobs.authString }}
{{- if $jobs.environmentSecret }}spec.jobs.environmentSecret
{{- else if and $server.headers (not $jobs.headers) (not $jobs.serverURL) }}a copy of spec.server.headers (or name a Secret there: spec.jobs.headers)
{{- else if without .targets .namespace }}
{{- if and (not $named) (or $server.apiKey $server.authString) }}
{{- range $field := list "apiKey" "authString" }}
{{- if hasKey $server $field }}a copy of spec.server.{{ $field }} (or name a Secret there: spec.jobs.{{ $field }}){{ end }}
{{- end }}
{{- else if and $server.caBundle (not $jobs.caBundle) (hasPrefix "https:" ($jobs.serverURL | default $server.url | default "https:")) }}a copy of spec.server.caBundle (or name what is there: spec.jobs.caBundle)
{{- end }}
{{- end }}
{{- end }}

{{- /* Refuses a binding that the release could not serve: takes root and binding. */}}
{{- define "workpool-operator.checkBinding" -}}
{{- $root := .root }}
{{- $name := .binding.name }}
{{- $watched := include "workpool-operator.watchNamespaces" $root | fromJsonArray }}
{{- $allowed := include "workpool-operator.jobNamespaces" $root | fromJsonArray }}
{{- $namespace := .binding.namespace | default $root.Release.Namespace }}
{{- $targets := include "workpool-operator.targets" (dict "own" $root.Release.Namespace "binding" .binding) | fromJsonArray }}
{{- if not (or $root.Values.clusterWide (has $namespace $watched)) }}
{{- fail (printf "binding %s is in namespace %s, which is not watched: set watchNamespaces to %s" $name $namespace (toJson (append $watched $namespace))) }}
{{- end }}
{{- range $targets }}
{{- if not (has . $allowed) }}
{{- fail (printf "the Jobs of binding %s go to namespace %s, where no Role allows them: set jobNamespaces to %s" $name . (toJson (append $allowed .))) }}
{{- end }}
{{- end }}
{{- if and $root.Values.clusterWide (not (has $namespace $allowed)) }}
{{- fail (printf "binding %s is in namespace %s, where nothing allows the operator to take its Lease: set jobNamespaces to %s" $name $namespace (toJson (append $allowed $namespace))) }}
{{- end }}
{{- $needs := include "workpool-operator.needsSecrets" (dict "namespace" $namespace "targets" $targets "spec" .binding.spec) }}
{{- if and $needs (not $root.Values.writeSecrets) }}
{{- $where := without $targets $namespace | default $targets | join ", " }}
{{- fail (printf "binding %s needs an operator that may write Secrets in namespace %s, for %s: set writeSecrets to true" $name $where $needs) }}
{{- end }}
{{- end }}
