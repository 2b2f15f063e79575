{{- define "berth.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/*
A DNS label that begins with a letter, as the name of a Service has to, and short enough for what is appended to it to
stay one. Names of releases may begin with a digit and have dots.
*/}}
{{- define "berth.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = .Release.Name -}}
{{- if not (contains (include "berth.name" .) .Release.Name) -}}
{{- $name = printf "%s-%s" .Release.Name (include "berth.name" .) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- $name = printf "berth-%s" $name -}}
{{- end -}}
{{- $name | replace "." "-" | trunc 40 | trimAll "-" -}}
{{- end -}}

{{- define "berth.service" -}}
{{- printf "%s-webhook" (include "berth.fullname" .) -}}
{{- end -}}

{{/* Where the API server finds it, which the certificate has to be for. */}}
{{- define "berth.dnsName" -}}
{{- printf "%s.%s.svc" (include "berth.service" .) .Release.Namespace -}}
{{- end -}}

{{- define "berth.selectorLabels" -}}
app.kubernetes.io/name: {{ include "berth.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "berth.labels" -}}
{{ include "berth.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "berth.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "berth.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Takes an entry of .Values.images, and the tag where it names none: "" leaves it out. */}}
{{- define "berth.image" -}}
{{- $tag := default .otherwise .image.tag -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else if $tag -}}
{{- printf "%s:%s" .image.repository $tag -}}
{{- else -}}
{{- .image.repository -}}
{{- end -}}
{{- end -}}

{{- define "berth.tlsSecret" -}}
{{- if .Values.certificates.certManager.enabled -}}
{{- printf "%s-webhook-tls" (include "berth.fullname" .) -}}
{{- else -}}
{{- .Values.certificates.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* What no schema can say in a sentence. */}}
{{- define "berth.check" -}}
{{- range $label, $_ := include "berth.selectorLabels" . | fromYaml -}}
{{- if hasKey (default dict $.Values.podLabels) $label -}}
{{- fail (printf "podLabels: the Deployment selects its pods by %s; leave it out" $label) -}}
{{- end -}}
{{- end -}}
{{- with .Values.defaultSessionStorage -}}
{{- $host := "([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]+" -}}
{{- $url := printf "rediss?([+-](sentinel|cluster))?://%s(,%s)*([/?#].*)?" $host $host -}}
{{- if not (regexMatch (printf "^(%s|%s)$" $host $url) .) -}}
{{- fail (printf "defaultSessionStorage: %q is no address; write host:port, or a redis://, rediss://, redis+sentinel:// or redis+cluster:// URL with a port and without credentials" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.certificates -}}
{{- if .certManager.enabled -}}
{{- if or .existingSecret .caBundle -}}
{{- fail "certificates: choose certManager.enabled, or existingSecret with caBundle, and not both" -}}
{{- end -}}
{{- /* Only dates can be compared. */ -}}
{{- $start := toDate "2006-01-02" "2000-01-01" -}}
{{- $end := $start | mustDateModify .certManager.duration | unixEpoch | int64 -}}
{{- $renewal := $start | mustDateModify .certManager.renewBefore | unixEpoch | int64 -}}
{{- if ge $renewal $end -}}
{{- fail (printf "certificates: certManager.renewBefore (%s) has to be shorter than certManager.duration (%s)" .certManager.renewBefore .certManager.duration) -}}
{{- end -}}
{{- else if not .existingSecret -}}
{{- fail (printf "certificates: choose one: certificates.certManager.enabled=true where cert-manager is installed; or certificates.existingSecret=NAME, a Secret with tls.crt and tls.key for %s, and --set-file certificates.caBundle=ca.crt" (include "berth.dnsName" $)) -}}
{{- else if not .caBundle -}}
{{- fail "certificates: with existingSecret, the API server needs the CA of its certificate: --set-file certificates.caBundle=ca.crt" -}}
{{- else if not (contains "-----BEGIN CERTIFICATE-----" .caBundle) -}}
{{- fail "certificates: caBundle is no PEM certificate; give the content of the CA's file: --set-file certificates.caBundle=ca.crt" -}}
{{- else if contains "PRIVATE KEY" .caBundle -}}
{{- fail "certificates: caBundle holds a private key, which would be published to everybody; give the CA's certificate only" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The metadata that cert-manager's injector goes by; it writes caBundle, so the template leaves it out. */}}
{{- define "berth.registrationAnnotations" -}}
{{- if .Values.certificates.certManager.enabled -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "berth.service" . }}
{{- end -}}
{{- end -}}

{{/* Takes a path and the root. */}}
{{- define "berth.clientConfig" -}}
service: {namespace: {{ .root.Release.Namespace | quote }}, name: {{ include "berth.service" .root }}, port: 443, path: {{ .path }}}
{{- if not .root.Values.certificates.certManager.enabled }}
caBundle: {{ .root.Values.certificates.caBundle | b64enc }}
{{- end }}
{{- end -}}

{{- define "berth.namespaceSelector" -}}
{{- with .Values.webhook.namespaceSelector.matchLabels -}}
matchLabels: {{- toYaml . | nindent 2 }}
{{ end -}}
matchExpressions:
  # Berth cannot be asked about its own pods while it is down, nor about the cluster's.
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
  {{- with .Values.webhook.namespaceSelector.matchExpressions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The old object is what the cluster has; in a new one a client may write any deletionTimestamp. */}}
{{- define "berth.notBeingDeleted" -}}
- name: not-being-deleted
  expression: oldObject == null || !has(oldObject.metadata.deletionTimestamp)
{{- end -}}

{{/*
Opted in, or opting out, or built from one of the resources. A typing error in the value has to reach Berth too, to be
refused: anything but `disabled` does. An expression that fails to evaluate forbids the write, everybody's: hence has()
before every optional field.
*/}}
{{- define "berth.managed" -}}
- name: managed
  expression: |-
    [object, oldObject].exists(o, o != null && (
      (has(o.metadata.annotations)
        && 'berth.dev/inject' in o.metadata.annotations
        && o.metadata.annotations['berth.dev/inject'] != 'disabled')
      || (has(o.metadata.ownerReferences)
        && o.metadata.ownerReferences.exists(r,
          has(r.controller) && r.controller
          && has(r.kind) && r.kind in ['MCPServer', 'VirtualMCPServer']
          && has(r.apiVersion) && r.apiVersion.startsWith('toolhive.stacklok.dev/')))))
{{- end -}}
