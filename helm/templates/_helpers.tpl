{{/* Names, labels, and what other templates derive from the program's configuration. */}}

{{- define "sms.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What selects pods: a Deployment's selector is immutable, so no value may change it. */}}
{{- define "sms.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end }}

{{/* Labels of a pod: without the chart's version, which alone is no reason for a rollout. */}}
{{- define "sms.podLabels" -}}
{{- $own := include "sms.selectorLabels" . | fromYaml -}}
{{- merge $own (deepCopy .Values.podLabels) (deepCopy .Values.commonLabels) | toYaml -}}
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

{{/* Labels of an object: (dict "root" $ "component" NAME "extra" LABELS). The chart's own win. */}}
{{- define "sms.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" .root.Chart.Name
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

{{/*
The annotations of a pod that runs the program, its configuration among them: it is a part of the
pod's template, so that a former ReplicaSet has its own, whatever was installed since.
*/}}
{{- define "sms.podAnnotations" -}}
{{- $own := dict "sms-status-bridge/bridge.yaml" (include "sms.config" .root) -}}
{{- include "sms.annotations" (dict "root" .root "own" (merge $own (default dict .own)) "extra" .extra) -}}
{{- end }}

{{/*
Every value of a key: (list ROOT "config.endpoints[].path") gives a list in JSON of each one's own
key, its text, whether it has any (`given`), and whether that is more than a reference (`known`).
What `config` leaves out has the program's default; a section that is off without one has no values.
*/}}
{{- define "sms.values" -}}
{{- $root := index . 0 -}}
{{- $path := index . 1 -}}
{{- $program := $root.Files.Get "files/validation.json" | fromJson -}}
{{- $found := list (dict "key" "" "value" $root.Values) -}}
{{- $section := "" -}}
{{- range $step := splitList "." $path -}}
{{- $name := trimSuffix "[]" $step -}}
{{- $section = printf "%s.%s" $section $step | trimPrefix "." -}}
{{- $off := and (ne $section $path) (has $section $program.off) -}}
{{- $next := list -}}
{{- range $found -}}
{{- $key := printf "%s.%s" .key $name | trimPrefix "." -}}
{{- $there := and (kindIs "map" .value) (hasKey .value $name) -}}
{{- if and $off (or (not $there) (kindIs "invalid" (index .value $name))) -}}
{{- else if and $there (hasSuffix "[]" $step) -}}
{{- range $n, $item := index .value $name -}}
{{- $next = append $next (dict "key" (printf "%s[%d]" $key $n) "value" $item) -}}
{{- end -}}
{{- else if $there -}}
{{- $next = append $next (dict "key" $key "value" (index .value $name)) -}}
{{- else if not (hasSuffix "[]" $step) -}}
{{- $next = append $next (dict "key" $key "value" (index $program.defaults $path)) -}}
{{- end -}}
{{- end -}}
{{- $found = $next -}}
{{- end -}}
{{- $values := list -}}
{{- range $found -}}
{{- $one := . -}}
{{- if and (kindIs "invalid" .value) (hasKey $program.fallbacks $path) -}}
{{- $one = include "sms.values" (list $root (index $program.fallbacks $path)) | fromJsonArray | first -}}
{{- else -}}
{{- $text := ternary "" (toString .value) (kindIs "invalid" .value) -}}
{{- if hasSuffix ".path" $path }}{{ $text = trimSuffix "/" $text }}{{ end -}}
{{- $given := or (has (kindOf .value) (list "float64" "int64" "map")) (not (empty .value)) -}}
{{- $one = dict "key" .key "text" $text "given" $given "known" (and $given (not (contains "${" $text))) -}}
{{- end -}}
{{- $values = append $values $one -}}
{{- end -}}
{{- $values | toJson -}}
{{- end }}

{{/* The texts of a key's values, each once, as a list in JSON. */}}
{{- define "sms.texts" -}}
{{- $texts := list -}}
{{- range include "sms.values" . | fromJsonArray }}{{ $texts = append $texts .text }}{{ end -}}
{{- uniq $texts | toJson -}}
{{- end }}

{{/* One setting of the program: (list ROOT "server.port"). */}}
{{- define "sms.setting" -}}
{{- include "sms.texts" (list (index . 0) (printf "config.%s" (index . 1))) | fromJsonArray | first -}}
{{- end }}

{{- define "sms.serverPort" -}}{{ include "sms.setting" (list . "server.port") }}{{- end }}
{{- define "sms.adminPort" -}}{{ include "sms.setting" (list . "admin.port") }}{{- end }}

{{/* Seconds from the deletion of a pod to the end of the process, at most. */}}
{{- define "sms.shutdownSeconds" -}}
{{- $drain := include "sms.setting" (list . "server.drain_delay_seconds") -}}
{{- $grace := include "sms.setting" (list . "server.shutdown_grace_seconds") -}}
{{- $sleep := include "sms.texts" (list . "lifecycle.preStop.sleep.seconds") | fromJsonArray | first -}}
{{- ceil (addf (float64 $drain) (float64 $grace) (float64 $sleep)) | int64 -}}
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
{{- range include "sms.texts" (list . "config.endpoints[].path") | fromJsonArray }}{{ $paths = append $paths (default "/" .) }}{{ end -}}
{{- $paths | toJson -}}
{{- end }}

{{/* Every topic that the program writes to, as a list in JSON. */}}
{{- define "sms.topics" -}}
{{- $topics := include "sms.texts" (list . "config.endpoints[].topic") | fromJsonArray -}}
{{- with include "sms.setting" (list . "kafka.dead_letter_topic") -}}
{{- $topics = append $topics . -}}
{{- end -}}
{{- $topics | toJson -}}
{{- end }}

{{/* The distinct ports of a setting's URLs: (list ROOT "config.endpoints[].provider.url"). Text in JSON. */}}
{{- define "sms.urlPorts" -}}
{{- $ports := list -}}
{{- range include "sms.texts" . | fromJsonArray | compact -}}
{{- $authority := regexReplaceAll "^https?://([^/?]*).*$" . "${1}" -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $authority) -}}
{{- $ports = append $ports (default (ternary "443" "80" (hasPrefix "https:" .)) $port) -}}
{{- end -}}
{{- uniq $ports | toJson -}}
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

{{/* Where every pod may go: names, the brokers, and the token endpoint. Rules of an `egress`. */}}
{{- define "sms.egress" -}}
# OpenShift's DNS pods listen on 5353, which is what a policy sees behind their Service.
- ports:
    {{- range $port := list 53 5353 }}
    {{- range $protocol := list "UDP" "TCP" }}
    - {port: {{ $port }}, protocol: {{ $protocol }}}
    {{- end }}
    {{- end }}
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
{{- with include "sms.urlPorts" (list . "config.kafka.security.sasl.token_url") | fromJsonArray }}
- ports:
    {{- range default . $.Values.networkPolicy.tokenEndpointPorts }}
    - {port: {{ . | int }}, protocol: TCP}
    {{- end }}
  {{- with $.Values.networkPolicy.tokenEndpoint }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
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
      name: {{ . | quote }}
  {{- end }}
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What the values say of every pod of the chart. */}}
{{- define "sms.pod" -}}
serviceAccountName: {{ include "sms.serviceAccountName" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- $pod := dict "securityContext" .Values.podSecurityContext }}
{{- with include "sms.given" (merge $pod (pick .Values "imagePullSecrets" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" "nodeSelector" "tolerations")) }}
{{ . }}
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
    downwardAPI:
      items:
        - path: bridge.yaml
          fieldRef:
            fieldPath: metadata.annotations['sms-status-bridge/bridge.yaml']
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The keys of a mapping that have a value, as YAML; 0 is one. */}}
{{- define "sms.given" -}}
{{- $given := dict -}}
{{- range $key, $value := . -}}
{{- if or $value (kindIs "float64" $value) (kindIs "int64" $value) }}{{ $_ := set $given $key $value }}{{ end -}}
{{- end -}}
{{- if $given }}{{ toYaml $given }}{{ end -}}
{{- end }}

{{/* How Prometheus scrapes a pod or a Service, by the values of its monitor. */}}
{{- define "sms.scrape" -}}
port: admin
path: /metrics
{{- /* Else the Operator's own label `endpoint`, the port's name, would push ours aside. */}}
honorLabels: true
{{- with include "sms.given" (pick . "interval" "scrapeTimeout" "relabelings" "metricRelabelings") }}
{{ . }}
{{- end }}
{{- end }}

{{/*
What ingress controllers have to be told, by the name of the class; none is the cluster's default,
which may be any. nginx answers 413 itself beyond 1 MiB: with twice the program's own limit, what is
somewhat too large reaches the program, which counts it. The others ask `/` whether a pod is well.
The class of AKS's own nginx, webapprouting.kubernetes.azure.com, is none of Azure's gateway.
*/}}
{{- define "sms.ingressAnnotations" -}}
{{- $bytes := include "sms.quantity" (include "sms.setting" (list . "server.max_body_bytes")) | float64 | mulf 2 | int64 | toString -}}
{{- $port := include "sms.adminPort" . -}}
{{- $class := .Values.ingress.className -}}
{{- if or (not $class) (contains "nginx" $class) (contains "webapprouting" $class) -}}
nginx.ingress.kubernetes.io/proxy-body-size: {{ $bytes | quote }}
nginx.org/client-max-body-size: {{ $bytes | quote }}
{{- else if contains "alb" $class -}}
alb.ingress.kubernetes.io/target-type: ip
alb.ingress.kubernetes.io/healthcheck-path: /readyz
alb.ingress.kubernetes.io/healthcheck-port: {{ $port | quote }}
{{- else if contains "azure" $class -}}
appgw.ingress.kubernetes.io/health-probe-path: /readyz
appgw.ingress.kubernetes.io/health-probe-port: {{ $port | quote }}
{{- end -}}
{{- end }}
