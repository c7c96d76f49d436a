#!/bin/bash
# What `make demo` types when there are a cluster, a Prefect server and an image for flow runs:
#   KUBECONFIG         the cluster
#   PREFECT_API_URL    the server, as this machine reaches it; POD_API_URL: as pods reach it
#   RUN_IMAGE          the image
#   FOLDER             where the operator logs to
# Every step can be repeated, so that an interrupted demo continues.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$FOLDER/log/operator.log
trap 'echo "the demo failed; the operator logs to $log, the prefect commands to $FOLDER/log/prefect.log" >&2' ERR

step() { echo "==> $*"; }
show() { echo; echo "\$ $*"; "$@"; }

step "applying the CRD and the WorkPoolBinding"
kubectl apply -f manifests/base/crd.yaml
kubectl wait --for=condition=Established -f manifests/base/crd.yaml --timeout=30s
kubectl create namespace data --dry-run=client -o yaml | kubectl apply -f -
# The example but for the server's URL: here the operator runs outside the cluster.
sed "s|^    url: .*|    url: $PREFECT_API_URL\n  jobs:\n    serverURL: $POD_API_URL|" examples/binding.yaml |
  kubectl apply -f -

step "creating the work pool, as for Prefect's own worker"
prefect work-pool create demo --type kubernetes --overwrite > "$FOLDER/log/prefect.log"

step "starting the operator on this machine"
# A session of its own: it stays when this script ends. The variable is what `make down` finds it by.
WORKPOOL_OPERATOR_DEMO=$FOLDER setsid workpool-operator run --health-port=0 > "$log" 2>&1 < /dev/null &
operator=$!

step "deploying examples/flows/hello.py"
(cd examples && prefect --no-prompt deploy --name demo >> "$FOLDER/log/prefect.log")
kubectl -n data wait --for=condition=Ready workpoolbinding/demo --timeout=60s

step "prefect deployment run hello/demo --watch"
prefect deployment run hello/demo --watch --watch-timeout 300

job=$(kubectl -n data get jobs --sort-by=.metadata.creationTimestamp -o name | tail -1)
# The flow is Completed a second before its pod ends.
kubectl -n data wait --for=condition=Complete "$job" --timeout=60s > /dev/null
show kubectl -n data get "$job"
show kubectl -n data get pods -l "batch.kubernetes.io/job-name=${job#*/}" -o wide
show kubectl -n data get wpb
python -m testbed.timeline "$job"

cat << EOF

Everything stays up. Look further:
  Prefect's UI      ${PREFECT_API_URL%/api}
  the cluster       export KUBECONFIG=$KUBECONFIG; alias kubectl=$(command -v kubectl)
  the binding       kubectl -n data describe wpb demo
  the operator      tail -f $log    (pid $operator)
  a second run      PREFECT_API_URL=$PREFECT_API_URL $(command -v prefect) deployment run hello/demo --watch
  end it            make down
EOF
