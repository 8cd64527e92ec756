{{- define "walpost.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "walpost.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "walpost.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "walpost.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "walpost.selector" -}}
app.kubernetes.io/name: {{ include "walpost.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "walpost.labels" -}}
{{ include "walpost.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "walpost.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the Pod Security Standard "restricted" asks of a container, and no more rights than that. */}}
{{- define "walpost.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "walpost.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}


{{/* Settings, secrets and where they are, for `run` and `init` alike. Takes root, database and settings (a ConfigMap's name). */}}
{{- define "walpost.env" -}}
{{- $values := .root.Values -}}
- {name: WALPOST_DATABASE_URL_FILE, value: {{ printf "/run/secrets/walpost/database/%s" .database.key | quote }}}
- {name: WALPOST_KAFKA_BROKERS, value: {{ required "kafkaBrokers: the bootstrap servers, as in kafka-0:9092,kafka-1:9092" $values.kafkaBrokers | quote }}}
- {name: WALPOST_LOG_FORMAT, value: json}
{{- if or $values.settings $values.existingSettingsSecret }}
- {name: WALPOST_CONFIG, value: /etc/walpost/walpost.toml}
{{- end }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "walpost.volumeMounts" -}}
{{- $values := .root.Values -}}
- {name: database, mountPath: /run/secrets/walpost/database, readOnly: true}
{{- if or $values.settings $values.existingSettingsSecret }}
- {name: settings, mountPath: /etc/walpost, readOnly: true}
{{- end }}
{{- range $values.secretFiles }}
- {name: {{ printf "secret-%s" .name }}, mountPath: {{ printf "/run/secrets/walpost/%s" .name }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "walpost.volumes" -}}
{{- $values := .root.Values -}}
- name: database
  secret:
    secretName: {{ required "database.existingSecret: the Secret with the connection string" .database.existingSecret | quote }}
    defaultMode: 0440
    items: [{key: {{ .database.key | quote }}, path: {{ .database.key | quote }}}]
{{- if $values.existingSettingsSecret }}
- name: settings
  secret: {secretName: {{ $values.existingSettingsSecret | quote }}, defaultMode: 0440}
{{- else if $values.settings }}
- name: settings
  configMap: {name: {{ .settings }}}
{{- end }}
{{- range $values.secretFiles }}
- name: {{ printf "secret-%s" .name }}
  secret: {secretName: {{ .existingSecret | quote }}, defaultMode: 0440}
{{- end }}
{{- end -}}
