{{/* The parts of the system, each told from the others by its component. They take a dict: root, component, values. */}}
{{- define "package.name" -}}
{{- printf "%s-%s" .root.Release.Name .component | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "package.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "package.labels" -}}
{{ include "package.selector" . }}
app.kubernetes.io/part-of: logistic-package-api
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "package.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "package.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "package.image" -}}
{{ .values.image.repository }}:{{ .values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* A key of a Secret as a volume. Takes name, secret (existingSecret and key) and what (which value is missing). */}}
{{- define "package.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ required (printf "%s.existingSecret: the Secret with it" .what) .secret.existingSecret | quote }}
    defaultMode: 0440
    items: [{key: {{ .secret.key | quote }}, path: {{ .secret.key | quote }}}]
{{- end -}}

{{/* What is the same of a container, whichever program. Takes port and ready beside the others. */}}
{{- define "package.container" -}}
image: {{ include "package.image" . | quote }}
imagePullPolicy: {{ .values.image.pullPolicy }}
resources: {{- toYaml .values.resources | nindent 2 }}
securityContext: {{- include "package.containerSecurity" . | nindent 2 }}
startupProbe: {httpGet: {path: /live, port: {{ .port }}}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 60}
livenessProbe: {httpGet: {path: /live, port: {{ .port }}}, periodSeconds: 10, timeoutSeconds: 4, failureThreshold: 6}
readinessProbe: {httpGet: {path: /ready, port: {{ .port }}}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
{{- end -}}

{{- define "package.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "package.podSecurity" . | nindent 2 }}
{{- end -}}

{{/* Milliseconds as whole seconds, and 10 s more. */}}
{{- define "package.grace" -}}
{{ add (div (add . 999) 1000) 10 }}
{{- end -}}
