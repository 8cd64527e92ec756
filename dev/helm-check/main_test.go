package main

import (
	"fmt"
	"strings"
	"testing"
)

// A Deployment that is right, as text: each test breaks it at one place.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: relay}
spec:
  selector: {matchLabels: {app: relay}}
  template:
    metadata: {labels: {app: relay}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 20
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: relay
          image: relay:1
          env: [{name: WALPOST_DRAIN_TIMEOUT_MS, value: "10000"}]
          ports: [{name: http, containerPort: 9101}]
          startupProbe: {httpGet: {path: /live, port: http}}
          livenessProbe: {httpGet: {path: /live, port: http}}
          readinessProbe: {httpGet: {path: /healthy, port: http}}
          resources: {limits: {memory: 1Gi}, requests: {cpu: 1}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: settings, mountPath: /etc/relay}]
      volumes: [{name: settings, configMap: {name: settings}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: v1
kind: Service
metadata: {name: relay}
spec: {selector: {app: relay}, ports: [{port: 9101, targetPort: http}]}
`

func faultsOf(text string) string {
	objects, faults := read(strings.NewReader(text))
	return fmt.Sprint(append(faults, check(objects)...))
}

func TestWhatIsRightHasNoFault(t *testing.T) {
	if faults := faultsOf(deployment); faults != "[]" {
		t.Fatal(faults)
	}
}

func TestEachMistakeIsNamed(t *testing.T) {
	for _, mistake := range []struct{ from, to, said string }{
		{"automountServiceAccountToken: false", "", "token of the API server"},
		{"terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: 5", "is given 5 s to stop"},
		{"terminationGracePeriodSeconds: 20", "terminationGracePeriodSecond: 20", "unknown field"},
		{"terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: soon", "cannot unmarshal"},
		{"kind: Service", "kind: Servise", "no kind"},
		{"runAsNonRoot: true, ", "", "runAsNonRoot"},
		{"drop: [ALL]", "add: [NET_ADMIN]", "capabilities"},
		{"readOnlyRootFilesystem: true, ", "", "can write to its root"},
		{"limits: {memory: 1Gi}, ", "", "no limit of memory"},
		{"livenessProbe: {httpGet: {path: /live, port: http}}", "", "lacks a probe"},
		{"path: /healthy, port: http", "path: /healthy, port: web", "asks a port that is not there"},
		{"metadata: {name: settings}", "metadata: {name: other}", "no ConfigMap settings"},
		{"metadata: {labels: {app: relay}}", "metadata: {labels: {app: other}}", "does not select its own pods"},
		{"{selector: {app: relay}, ports", "{selector: {app: other}, ports", "selects no pod"},
		{"targetPort: http", "targetPort: web", "has no port web"},
		{`"10000"}`, `"10000"}, {name: URL, value: "postgres://me:secret@db"}`, "password in its environment"},
		{"metadata: {name: settings}", "metadata: {name: settings}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}", "is there twice"},
	} {
		if !strings.Contains(deployment, mistake.from) {
			t.Fatalf("%q is not in the text", mistake.from)
		}
		faults := faultsOf(strings.Replace(deployment, mistake.from, mistake.to, 1))
		found := false
		for _, said := range strings.Split(mistake.said, "|") {
			found = found || strings.Contains(faults, said)
		}
		if !found {
			t.Errorf("%q instead of %q: %s", mistake.to, mistake.from, faults)
		}
	}
}
