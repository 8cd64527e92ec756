#!/usr/bin/env bash
# Checks the Helm charts where there is no cluster: they are rendered with the values in tests/, and every object is held
# against the Kubernetes API types, unknown fields refused (dev/helm-check). Values in tests/refused must be refused.
#
#   deploy/helm/check.sh     needs Go; fetches and builds helm, in a version that dev/helm-check/go.sum pins, to .dev/tools
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v go >/dev/null; then
  echo "helm/check.sh: no go, which builds helm: install it (1.21 or newer fetches the version that is needed)" >&2
  exit 1
fi
tools=$PWD/.dev/tools/bin
mkdir -p "$tools"
# Not optimised: a quarter less to compile, and nothing here takes long to run.
export GOFLAGS="'-gcflags=all=-N -l'"
(cd dev/helm-check && go build -ldflags='-s -w' -o "$tools/" helm.sh/helm/v3/cmd/helm . && go vet . && go test .)

# The oldest that the charts say, and a later one. Helm's own word about links is no fault.
kubernetes=(1.27.0 1.34.0)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
helm() { "$tools/helm" "$@" 2> >(grep -v 'found symbolic link' >&2); }
fault() { echo "helm/check.sh: $*" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
for chart in walpost logistic-package-api; do
  for key in version appVersion; do
    grep -qx "$key: $version" "deploy/helm/$chart/Chart.yaml" || fault "$chart: $key is not $version, as in Cargo.toml"
  done
done
grep -q "name: walpost, version: $version" deploy/helm/logistic-package-api/Chart.yaml || fault "logistic-package-api names another version of walpost"

# Alerts and dashboards are those of Compose: links, no copies, and none is forgotten.
for file in deploy/prometheus/rules/*.yml deploy/grafana/dashboards/*.json; do
  links=0
  for link in deploy/helm/*/files/*/"$(basename "$file")"; do
    [ -L "$link" ] && [ "$link" -ef "$file" ] && links=$((links + 1))
  done
  [ "$links" -eq 1 ] || fault "$file is linked from $links charts, and should be from one"
done

for values in deploy/helm/tests/*.yaml; do
  chart=deploy/helm/$(basename "$values" | sed -E 's/-[a-z]+\.yaml$//')
  helm lint --strict --quiet "$chart" --values "$values" --kube-version "${kubernetes[0]}"
  for release in "${kubernetes[@]}"; do
    helm template shop "$chart" --namespace shop --values "$values" --kube-version "$release" > "$work/rendered.yaml"
    echo -n "$(basename "$values"), Kubernetes $release: "
    "$tools/helm-check" < "$work/rendered.yaml"
  done
  # What is packed has what the links lead to.
  helm package "$chart" --destination "$work" > /dev/null
  helm template shop "$work/$(basename "$chart")-$version.tgz" --namespace shop --values "$values" \
    --kube-version "${kubernetes[-1]}" > "$work/packed.yaml"
  cmp "$work/rendered.yaml" "$work/packed.yaml"
done

for values in deploy/helm/tests/refused/*.yaml; do
  chart=deploy/helm/walpost
  [[ $values == */logistic-* ]] && chart=deploy/helm/logistic-package-api
  if "$tools/helm" template shop "$chart" --values "$values" --kube-version "${kubernetes[-1]}" > /dev/null 2> "$work/said"; then
    fault "$values is not refused"
  fi
  expected=$(sed -n 's/^# says: //p' "$values")
  grep -qF -- "$expected" "$work/said" || fault "$values is refused for something else than $expected: $(cat "$work/said")"
  echo "refused: $(basename "$values" .yaml): $expected"
done
