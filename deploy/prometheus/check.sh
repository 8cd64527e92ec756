#!/usr/bin/env bash
# Checks what Prometheus is configured with: that it is understood, that each alert fires when it should and not when it
# should not, and that each has its section in the runbook. Needs promtool, which comes with Prometheus.
set -euo pipefail
cd "$(dirname "$0")"

promtool check config --syntax-only prometheus.yml
promtool check rules rules/*.yml
promtool test rules tests/*.yml

missing=0
miss() { echo "$*" >&2; missing=1; }
for alert in $(sed -nE 's/^ *- alert: (.*)/\1/p' rules/*.yml); do
  grep -qx "## $alert" ../../docs/runbook.md || miss "$alert has no section in docs/runbook.md"
  grep -qx "  - name: $alert fires" tests/*.yml || miss "$alert is not tested to fire"
  grep -qx "  - name: $alert is quiet" tests/*.yml || miss "$alert is not tested to be quiet"
done
for section in $(sed -nE 's/^## (Walpost[A-Za-z]*|PackageApi[A-Za-z]*|PackageBot[A-Za-z]*|PackageFacade[A-Za-z]*)$/\1/p' ../../docs/runbook.md); do
  grep -qE "^ *- alert: $section\$" rules/*.yml || miss "docs/runbook.md has $section, which is no alert"
done
exit "$missing"
