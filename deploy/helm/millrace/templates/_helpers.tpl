{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "millrace.name" -}}
{{- if eq .Release.Name .Chart.Name }}{{ .Chart.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "millrace.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Labels that never change: a dict with `root` and `component`. */}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "millrace.labels" -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* What every container of ours may do: nothing. */}}
{{- define "millrace.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "millrace.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "millrace.address" -}}
{{ include "millrace.name" . }}.{{ .Release.Namespace }}.svc:7070
{{- end }}

{{/* How a client of ours finds the server and proves who it is: a dict with `root`, `token`, `certificate` (names of secrets). */}}
{{- define "millrace.clientEnvironment" -}}
- name: MILLRACE_ADDRESS
  value: {{ include "millrace.address" .root }}
{{- if .root.Values.tls.secretName }}
- name: MILLRACE_CA
  value: /etc/millrace/ca/ca.crt
{{- end }}
{{- if .token }}
- name: MILLRACE_TOKEN_FILE
  value: /etc/millrace/token/token
{{- end }}
{{- if .certificate }}
- name: MILLRACE_CERTIFICATE
  value: /etc/millrace/certificate/tls.crt
- name: MILLRACE_KEY
  value: /etc/millrace/certificate/tls.key
{{- end }}
{{- end }}

{{- define "millrace.clientMounts" -}}
{{- if .root.Values.tls.secretName }}
- name: ca
  mountPath: /etc/millrace/ca
  readOnly: true
{{- end }}
{{- if .token }}
- name: token
  mountPath: /etc/millrace/token
  readOnly: true
{{- end }}
{{- if .certificate }}
- name: certificate
  mountPath: /etc/millrace/certificate
  readOnly: true
{{- end }}
{{- end }}

{{- define "millrace.clientVolumes" -}}
{{- if .root.Values.tls.secretName }}
- name: ca
  secret:
    secretName: {{ .root.Values.tls.secretName }}
    items:
      - {key: {{ .root.Values.tls.caKey }}, path: ca.crt}
{{- end }}
{{- if .token }}
- name: token
  secret:
    secretName: {{ .token }}
    defaultMode: 0440
{{- end }}
{{- if .certificate }}
- name: certificate
  secret:
    secretName: {{ .certificate }}
    defaultMode: 0440
{{- end }}
{{- end }}
