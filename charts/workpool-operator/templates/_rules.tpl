{{- /* Made by `make crd` from kube/rights.py: change that file instead. */}}

{{- define "workpool-operator.rules.bindings" }}
  # read the CA, the address and the template that a binding names
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get]
  # report changes of Ready, refused claims, and crashed runs without a Job
  - apiGroups: [""]
    resources: [events]
    verbs: [create]
  # read the UID of the namespace, which is part of each claim
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get]
  # read the credentials that bindings name
  - apiGroups: [""]
    resources: [secrets]
    verbs: [get]
  # see which replica serves which binding
  # take the Lease of a binding before it serves it
  - apiGroups: ["coordination.k8s.io"]
    resources: [leases]
    verbs: [get, list, watch, create, patch]
  # read the server of prefect-operator that a binding names
  - apiGroups: ["prefect.io"]
    resources: [prefectservers]
    verbs: [get]
  # read the work pool of prefect-operator that a binding names
  - apiGroups: ["prefect.io"]
    resources: [prefectworkpools]
    verbs: [get]
  # follow bindings
  # set and remove their finalizer
  - apiGroups: ["workpool-operator.dev"]
    resources: [workpoolbindings]
    verbs: [get, list, watch, patch]
  # write their status
  - apiGroups: ["workpool-operator.dev"]
    resources: [workpoolbindings/status]
    verbs: [patch]
{{- end }}

{{- define "workpool-operator.rules.jobs" }}
  # find why a pod does not start, and report on a Job what its run waits for or how it ended
  - apiGroups: [""]
    resources: [events]
    verbs: [list, create]
  # read whether the namespace allows bindings of another one
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get]
  # follow a run's pod; end the pod of a finished run, and keep its log
  - apiGroups: [""]
    resources: [pods]
    verbs: [list, watch, patch]
  # quote the last lines of a container that failed
  - apiGroups: [""]
    resources: [pods/log]
    verbs: [get]
  # run, follow, annotate and end Jobs, and start their TTL
  - apiGroups: ["batch"]
    resources: [jobs]
    verbs: [create, get, list, watch, patch, delete]
{{- end }}

{{- define "workpool-operator.rules.secrets" }}
  # keep copies of credentials, and environments of runs
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create, patch, delete, list]
{{- end }}

{{- define "workpool-operator.rules.replicas" }}
  # know the other replicas, and be known to them
  - apiGroups: ["coordination.k8s.io"]
    resources: [leases]
    verbs: [get, list, watch, create, patch]
{{- end }}

{{- define "workpool-operator.rules.everywhere" }}
  # read the UID of the namespace, which is part of each claim
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get]
  # see which replica serves which binding
  - apiGroups: ["coordination.k8s.io"]
    resources: [leases]
    verbs: [get, list, watch]
  # follow bindings
  # set and remove their finalizer
  - apiGroups: ["workpool-operator.dev"]
    resources: [workpoolbindings]
    verbs: [get, list, watch, patch]
  # write their status
  - apiGroups: ["workpool-operator.dev"]
    resources: [workpoolbindings/status]
    verbs: [patch]
{{- end }}

{{- define "workpool-operator.rules.namespace" }}
  # read the CA, the address and the template that a binding names
  # check those that bindings name for run pods
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get]
  # report changes of Ready, refused claims, and crashed runs without a Job
  # find why a pod does not start, and report on a Job what its run waits for or how it ended
  - apiGroups: [""]
    resources: [events]
    verbs: [create, list]
  # read whether the namespace allows bindings of another one
  - apiGroups: [""]
    resources: [namespaces]
    verbs: [get]
  # follow a run's pod; end the pod of a finished run, and keep its log
  - apiGroups: [""]
    resources: [pods]
    verbs: [list, watch, patch]
  # quote the last lines of a container that failed
  - apiGroups: [""]
    resources: [pods/log]
    verbs: [get]
  # read the credentials that bindings name
  # check those that bindings name for run pods
  - apiGroups: [""]
    resources: [secrets]
    verbs: [get]
  # run, follow, annotate and end Jobs, and start their TTL
  - apiGroups: ["batch"]
    resources: [jobs]
    verbs: [create, get, list, watch, patch, delete]
  # take the Lease of a binding before it serves it
  - apiGroups: ["coordination.k8s.io"]
    resources: [leases]
    verbs: [create, patch]
  # read the server of prefect-operator that a binding names
  - apiGroups: ["prefect.io"]
    resources: [prefectservers]
    verbs: [get]
  # read the work pool of prefect-operator that a binding names
  - apiGroups: ["prefect.io"]
    resources: [prefectworkpools]
    verbs: [get]
{{- end }}

{{- define "workpool-operator.rules.unbind" }}
  # see whether an operator still waits for the runs of a deleted binding
  - apiGroups: ["coordination.k8s.io"]
    resources: [leases]
    verbs: [get]
  # delete the bindings of the release, and their finalizer if no operator does
  - apiGroups: ["workpool-operator.dev"]
    resources: [workpoolbindings]
    verbs: [get, list, delete, patch]
{{- end }}

{{- define "workpool-operator.rules.crd" }}
  # upgrade the CRD of WorkPoolBinding
  - apiGroups: ["apiextensions.k8s.io"]
    resources: [customresourcedefinitions]
    resourceNames: [workpoolbindings.workpool-operator.dev]
    verbs: [get, patch]
{{- end }}
