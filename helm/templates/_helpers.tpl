{{/* Names, labels, and what other templates derive from the program's configuration. */}}

{{- define "sms.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "sms.fullname" -}}
{{- $name := include "sms.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "sms.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sms.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{/* Labels of a pod: without the chart's version, which alone is no reason for a rollout. */}}
{{- define "sms.podLabels" -}}
{{- $own := include "sms.selectorLabels" . | fromYaml -}}
{{- merge $own (deepCopy .Values.podLabels) (deepCopy .Values.commonLabels) | toYaml -}}
{{- end }}

{{/* Labels of an object: (dict "root" $ "component" NAME "extra" LABELS). The chart's own win. */}}
{{- define "sms.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "sms.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" (default "gateway" .component)
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/version" (.root.Chart.AppVersion | toString)
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- merge $own (deepCopy (default dict .extra)) (deepCopy (default dict .root.Values.commonLabels)) | toYaml -}}
{{- end }}

{{/* The annotations of an object, or nothing: (dict "root" $ "own" A "extra" B). */}}
{{- define "sms.annotations" -}}
{{- $all := merge (deepCopy (default dict .own)) (deepCopy (default dict .extra)) (deepCopy (default dict .root.Values.commonAnnotations)) -}}
{{- if $all -}}
annotations:
  {{- toYaml $all | nindent 2 }}
{{- end -}}
{{- end }}

{{- define "sms.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sms.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "sms.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag | toString) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The program's configuration file: `config`, as it is. */}}
{{- define "sms.config" -}}
{{- toYaml .Values.config -}}
{{- end }}

{{/* A name for each content: no pod ever sees a configuration that it was not rendered with. */}}
{{- define "sms.configMapName" -}}
{{- printf "%s-config-%s" (include "sms.fullname" .) (include "sms.config" . | sha256sum | trunc 10) -}}
{{- end }}

{{/* One setting of the program, or its default: (list ROOT SECTION KEY DEFAULT). */}}
{{- define "sms.setting" -}}
{{- $section := index (index . 0).Values.config (index . 1) | default dict -}}
{{- $value := index $section (index . 2) -}}
{{- if kindIs "invalid" $value }}{{ index . 3 }}{{ else }}{{ $value }}{{ end -}}
{{- end }}

{{- define "sms.serverPort" -}}{{ include "sms.setting" (list . "server" "port" 8080) }}{{- end }}
{{- define "sms.adminPort" -}}{{ include "sms.setting" (list . "admin" "port" 8081) }}{{- end }}

{{/* Seconds from SIGTERM to the end of the process, at most. */}}
{{- define "sms.shutdownSeconds" -}}
{{- $drain := include "sms.setting" (list . "server" "drain_delay_seconds" 0) -}}
{{- $grace := include "sms.setting" (list . "server" "shutdown_grace_seconds" 15) -}}
{{- ceil (addf (float64 $drain) (float64 $grace)) | int64 -}}
{{- end }}

{{- define "sms.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "sms.shutdownSeconds" . | int64) 5 -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds | int64 -}}
{{- end -}}
{{- end }}

{{/* The paths of the endpoints, without trailing slashes, as a list in JSON. */}}
{{- define "sms.paths" -}}
{{- $paths := list -}}
{{- range .Values.config.endpoints -}}
{{- $paths = append $paths (trimSuffix "/" .path | default "/") -}}
{{- end -}}
{{- uniq $paths | toJson -}}
{{- end }}

{{/* The distinct topics of status events, as a list in JSON. */}}
{{- define "sms.statusTopics" -}}
{{- $shared := include "sms.setting" (list . "kafka" "topic" "sms.status") -}}
{{- $topics := list -}}
{{- range .Values.config.endpoints -}}
{{- $topics = append $topics (default $shared .topic) -}}
{{- end -}}
{{- uniq $topics | toJson -}}
{{- end }}

{{/* The topic of dead letters; empty where `config` says null. */}}
{{- define "sms.deadLetterTopic" -}}
{{- $kafka := .Values.config.kafka | default dict -}}
{{- if hasKey $kafka "dead_letter_topic" -}}
{{- default "" $kafka.dead_letter_topic -}}
{{- else -}}
sms.status.rejected
{{- end -}}
{{- end }}

{{/* Every topic that the program writes to, as a list in JSON. */}}
{{- define "sms.topics" -}}
{{- $topics := include "sms.statusTopics" . | fromJsonArray -}}
{{- with include "sms.deadLetterTopic" . -}}
{{- $topics = append $topics . -}}
{{- end -}}
{{- $topics | toJson -}}
{{- end }}

{{/* The distinct ports of the brokers, as a list of text in JSON. */}}
{{- define "sms.brokerPorts" -}}
{{- $servers := (.Values.config.kafka | default dict).bootstrap_servers -}}
{{- if not (kindIs "slice" $servers) -}}
{{- $servers = splitList "," (toString $servers) -}}
{{- end -}}
{{- $ports := list -}}
{{- range $servers -}}
{{- $ports = append $ports (regexFind "[0-9]*$" (trim (toString .))) -}}
{{- end -}}
{{- uniq $ports | toJson -}}
{{- end }}

{{/* The environment of the program, in its pods and in the test's. */}}
{{- define "sms.environment" -}}
env:
  - name: SMS_BRIDGE_CONFIG
    value: /etc/sms-bridge/bridge.yaml
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.existingSecret .Values.envFrom }}
envFrom:
  {{- with .Values.existingSecret }}
  - secretRef:
      name: {{ . }}
  {{- end }}
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "sms.volumeMounts" -}}
volumeMounts:
  - name: config
    mountPath: /etc/sms-bridge
    readOnly: true
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "sms.volumes" -}}
volumes:
  - name: config
    configMap:
      name: {{ include "sms.configMapName" . }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where every pod may go: names, and the brokers. Rules of an `egress`. */}}
{{- define "sms.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  {{- with .Values.networkPolicy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    {{- range default (include "sms.brokerPorts" . | fromJsonArray) .Values.networkPolicy.brokerPorts }}
    - {port: {{ . | int }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.brokers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* A CronJob's name has at most 52 characters. */}}
{{- define "sms.reconcileName" -}}
{{- printf "%s-reconcile" (include "sms.fullname" . | trunc 42 | trimSuffix "-") -}}
{{- end }}

{{- define "sms.reconcileSelector" -}}
{{- merge (dict "app.kubernetes.io/component" "reconcile") (include "sms.selectorLabels" . | fromYaml) | toYaml -}}
{{- end }}

{{/* Labels of the CronJob's pods; no selector of the gateway's finds them. */}}
{{- define "sms.reconcileLabels" -}}
{{- $own := include "sms.reconcileSelector" . | fromYaml -}}
{{- merge $own (deepCopy .Values.podLabels) (deepCopy .Values.commonLabels) | toYaml -}}
{{- end }}

{{/* The endpoints whose messages can be asked for, as a list in JSON. */}}
{{- define "sms.providers" -}}
{{- $providers := list -}}
{{- range .Values.config.endpoints -}}
{{- if kindIs "map" .provider -}}
{{- $providers = append $providers .provider -}}
{{- end -}}
{{- end -}}
{{- $providers | toJson -}}
{{- end }}

{{/* The distinct ports of the provider's API, as a list of text in JSON; empty if not written out. */}}
{{- define "sms.providerPorts" -}}
{{- $ports := list -}}
{{- range include "sms.providers" . | fromJsonArray -}}
{{- $scheme := regexFind "^https?" .url -}}
{{- $authority := regexReplaceAll "^https?://([^/]*).*$" .url "${1}" -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $authority) -}}
{{- if contains "${" .url -}}
{{- $ports = append $ports "" -}}
{{- else -}}
{{- $ports = append $ports (default (ternary "443" "80" (eq $scheme "https")) $port) -}}
{{- end -}}
{{- end -}}
{{- uniq $ports | toJson -}}
{{- end }}
