{{/* The name of everything: that of the release. */}}
{{- define "stentor.name" -}}
{{- if contains "stentor" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-stentor" (.Release.Name | trunc 44 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "stentor.selector" -}}
app.kubernetes.io/name: stentor
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stentor.labels" -}}
{{ include "stentor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
