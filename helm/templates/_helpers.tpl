{{- define "thunderhead.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "thunderhead.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "thunderhead.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "thunderhead.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "thunderhead.selectorLabels" -}}
app.kubernetes.io/name: {{ include "thunderhead.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "thunderhead.labels" -}}
{{ include "thunderhead.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: import
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "thunderhead.image" -}}
{{- $repository := required "image.repository: build an image with the binary `thunderhead` and name it" .Values.image.repository -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}

{{- define "thunderhead.sortedClaim" -}}
{{- default (printf "%s-sorted" (include "thunderhead.fullname" .)) .Values.sorted.existingClaim }}
{{- end }}
