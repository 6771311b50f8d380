#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the Helm chart: lint, golden files, schemas of two Kubernetes minors, Go types of custom resources, flags of the programs.
# tools/helm.sh --update writes the golden files (deploy/helm/golden, deploy/kubernetes) anew. 77: a tool is not to be had.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
tools=$PWD/build/tools
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

skip() {
  echo "SKIPPED helm: $1" >&2
  exit 77
}

# helm and customresources, built once for each state of their go.mod.
build_programs() {
  programs=$tools/kubernetes-$(cat tools/kubernetes/* | sha256sum | cut -c 1-16)
  [ -x "$programs/helm" ] && return
  command -v go >/dev/null 2>&1 || skip "needs Go"
  mkdir -p "$programs.part"
  if ! (cd tools/kubernetes && GOFLAGS="-modcacherw -trimpath -mod=readonly" go build -ldflags="-s -w" -o "$programs.part/" helm.sh/helm/v3/cmd/helm .) \
    >"$tools/kubernetes.log" 2>&1; then
    skip "building it failed (build/tools/kubernetes.log)"
  fi
  rm -rf "$programs" && mv "$programs.part" "$programs"
}

# render <release> <values file>
render() {
  "$programs/helm" template "$1" deploy/helm/millrace --namespace millrace --kube-version 1.34 --values "$2"
}

build_programs
# Has the schemas of all minors of Kubernetes.
bin=$(tools/pip.sh kubernetes-validate 1.37.0) || exit
failed=0
mkdir "$directory/golden" "$directory/kubernetes"
for values in deploy/helm/cases/*.yaml; do
  case=$(basename "$values")
  "$programs/helm" lint --strict --quiet deploy/helm/millrace --values "$values" || failed=1
  render millrace "$values" >"$directory/golden/$case" || failed=1
done
# Without helm: what `kubectl apply` takes.
for name in secure insecure; do
  case=$([ $name = secure ] && echo minimal || echo insecure)
  {
    echo "# SPDX-License-Identifier: Apache-2.0"
    echo "# Rendered from deploy/helm/millrace by tools/helm.sh --update; don't edit."
    sed -e '/^# Source: /d' -e '/^# SPDX/d' -e '/^ *helm.sh\/chart: /d' -e 's/managed-by: Helm/managed-by: kubectl/' "$directory/golden/$case.yaml"
  } >"$directory/kubernetes/$name.yaml"
done

if [ "${1:-}" = --update ]; then
  mkdir -p deploy/helm/golden deploy/kubernetes
  cp "$directory"/golden/* deploy/helm/golden/
  cp "$directory"/kubernetes/* deploy/kubernetes/
elif ! diff -ru deploy/helm/golden "$directory/golden" || ! diff -ru deploy/kubernetes "$directory/kubernetes"; then
  echo "helm: the chart renders something else than the golden files; if that is meant: tools/helm.sh --update"
  failed=1
fi
"$bin/python" tools/manifests.py "$directory"/golden/*.yaml "$directory"/kubernetes/*.yaml || failed=1
for file in "$directory"/golden/*.yaml; do
  "$programs/customresources" <"$file" >>"$directory/kinds" || failed=1
done
# The cases together have every kind of custom resource that the chart knows: none goes unchecked.
if [ "$(sort -u "$directory/kinds" | tr '\n' ' ')" != "ScaledObject ServiceMonitor TriggerAuthentication " ]; then
  echo "helm: not every custom resource of the chart is among deploy/helm/cases"
  failed=1
fi

# What the chart must refuse, and the words that say why.
while IFS='|' read -r arguments words; do
  # shellcheck disable=SC2086 # a list of words
  said=$("$programs/helm" template millrace deploy/helm/millrace --kube-version 1.34 $arguments 2>&1)
  code=$?
  if [ $code -eq 0 ] || ! grep -qF -- "$words" <<<"$said"; then
    echo "helm: with '$arguments' the chart must be refused with '$words'; it said: $said"
    failed=1
  fi
done <<'END'
|set tls.secretName
--set tls.secretName=a|set tls.secretName
--set tokens.secretName=a|set tls.secretName
--set insecure=true --set server.replicas=2|/server/replicas
--set insecure=true --set nonsense=1|nonsense
--set insecure=true --set backup.enabled=true|claimName
--set insecure=true --set server.settings.LOG_LEVEL=debug|LOG_LEVEL
--set insecure=true --set workers.a.autoscaling.enabled=true --set workers.a.image=b|queues
--set insecure=true --set workers.a.autoscaling.enabled=true --set workers.a.image=b --set workers.a.autoscaling.queues={q} --set workers.a.autoscaling.minReplicas=11|minReplicas must not be above maxReplicas (10)
--set tls.secretName=a --set tokens.secretName=b --set tls.clientCaSecretName=c --set workers.a.image=b --set workers.a.autoscaling.enabled=true --set workers.a.autoscaling.queues={q}|set autoscaling.certificateSecretName
--set tls.secretName=a --set tokens.secretName=b --set autoscaling.certificateSecretName=c --set workers.a.image=b --set workers.a.autoscaling.enabled=true --set workers.a.autoscaling.queues={q}|KEDA sends no token
--set insecure=true --set tls.clientCaSecretName=a|takes encryption
--set tls.secretName=a --set tokens.secretName=b --set backup.enabled=true --set backup.claimName=c|set backup.tokenSecretName
--set tls.secretName=a --set tls.clientCaSecretName=b --set backup.enabled=true --set backup.claimName=c --set backup.tokenSecretName=d|set backup.certificateSecretName
--set insecure=true --set server.terminationGracePeriodSeconds=5|above server.shutdownGrace
END
exit $failed
