{{/*
What a schema cannot say: settings that the chart needs to know, and that must go together.
Every problem is reported at once. ("endpoints", "events" and their keys are in the schema.)
*/}}
{{- define "sms.validate" -}}
{{- $problems := concat
  (include "sms.problems.required" . | fromJsonArray)
  (include "sms.problems.numbers" . | fromJsonArray)
  (include "sms.problems.secrets" . | fromJsonArray)
  (include "sms.problems.environment" . | fromJsonArray)
  (include "sms.problems.routes" . | fromJsonArray)
  (include "sms.problems.kafka" . | fromJsonArray)
  (include "sms.problems.reconcile" . | fromJsonArray) -}}
{{- if $problems -}}
{{- fail (printf "these values cannot be deployed:\n- %s" (join "\n- " $problems)) -}}
{{- end -}}
{{- end }}

{{- define "sms.problems.required" -}}
{{- $problems := list -}}
{{- if not .Values.image.repository -}}
{{- $problems = append $problems "image.repository is required: where your registry has the image that the Dockerfile makes" -}}
{{- end -}}
{{- if not (.Values.config.kafka | default dict).bootstrap_servers -}}
{{- $problems = append $problems "config.kafka.bootstrap_servers is required: the brokers to ask first, each host:port" -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}

{{- define "sms.problems.numbers" -}}
{{- $problems := list -}}
{{- $ports := dict "config.server.port" (include "sms.serverPort" .) "config.admin.port" (include "sms.adminPort" .) -}}
{{- range $key, $port := $ports -}}
{{- if not (and (regexMatch "^[0-9]{1,5}$" $port) (gt (int $port) 0)) -}}
{{- $problems = append $problems (printf "%s must be a plain number from 1 to 65535 here: the pods and Services need to know it" $key) -}}
{{- end -}}
{{- end -}}
{{- $seconds := dict
  "config.server.drain_delay_seconds" (include "sms.setting" (list . "server" "drain_delay_seconds" 0))
  "config.server.shutdown_grace_seconds" (include "sms.setting" (list . "server" "shutdown_grace_seconds" 15))
  "config.server.body_timeout_seconds" (include "sms.setting" (list . "server" "body_timeout_seconds" 10))
  "config.kafka.publish_timeout_seconds" (include "sms.setting" (list . "kafka" "publish_timeout_seconds" 4)) -}}
{{- $plain := true -}}
{{- range $key, $value := $seconds -}}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?$" $value) -}}
{{- $plain = false -}}
{{- $problems = append $problems (printf "%s must be a plain number here: terminationGracePeriodSeconds depends on it" $key) -}}
{{- end -}}
{{- end -}}
{{- if $plain -}}
{{- $problems = concat $problems (include "sms.problems.shutdown" . | fromJsonArray) -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}

{{- define "sms.problems.shutdown" -}}
{{- $problems := list -}}
{{- $needed := include "sms.shutdownSeconds" . | int64 -}}
{{- $given := include "sms.terminationGracePeriodSeconds" . | int64 -}}
{{- if lt $given $needed -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds (%d) must be at least config.server.drain_delay_seconds and shutdown_grace_seconds together (%d), or answers are cut off" $given $needed) -}}
{{- end -}}
{{- /* What the program leaves for requests of its grace: see bridge/gateway/server.py. */ -}}
{{- $grace := include "sms.setting" (list . "server" "shutdown_grace_seconds" 15) | float64 -}}
{{- $forRequests := maxf (subf (mulf $grace 0.8) 0.5) (divf $grace 2) -}}
{{- $body := include "sms.setting" (list . "server" "body_timeout_seconds" 10) | float64 -}}
{{- $publish := include "sms.setting" (list . "kafka" "publish_timeout_seconds" 4) | float64 -}}
{{- if gt (addf $body $publish) $forRequests -}}
{{- $problems = append $problems (printf "config.server.shutdown_grace_seconds (%v, of which %v are for requests) is too short for config.server.body_timeout_seconds (%v) and config.kafka.publish_timeout_seconds (%v) together" $grace $forRequests $body $publish) -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}

{{- define "sms.problems.secrets" -}}
{{- $problems := list -}}
{{- $what := "holds a secret itself: write ${NAME} or ${file:PATH}, and see existingSecret, extraEnv and extraVolumes" -}}
{{- range $n, $endpoint := .Values.config.endpoints -}}
{{- if kindIs "map" $endpoint.auth -}}
{{- range $m, $token := $endpoint.auth.tokens -}}
{{- if not (regexMatch "^[$][{]([A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)[}]$" $token) -}}
{{- $problems = append $problems (printf "config.endpoints[%d].auth.tokens[%d] %s" $n $m $what) -}}
{{- end -}}
{{- end -}}
{{- range $m, $user := $endpoint.auth.basic -}}
{{- if not (regexMatch "^[$][{]([A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)[}]$" $user.password) -}}
{{- $problems = append $problems (printf "config.endpoints[%d].auth.basic[%d].password %s" $n $m $what) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if kindIs "map" $endpoint.provider -}}
{{- range $key := list "token" "password" -}}
{{- $secret := get $endpoint.provider $key -}}
{{- if and $secret (not (regexMatch "^[$][{]([A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)[}]$" (toString $secret))) -}}
{{- $problems = append $problems (printf "config.endpoints[%d].provider.%s %s" $n $key $what) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $security := (.Values.config.kafka | default dict).security | default dict -}}
{{- $passwords := dict
  "sasl.password" ($security.sasl | default dict).password
  "tls.key_password" ($security.tls | default dict).key_password -}}
{{- range $key, $password := $passwords -}}
{{- if and $password (not (regexMatch "^[$][{]([A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)[}]$" (toString $password))) -}}
{{- $problems = append $problems (printf "config.kafka.security.%s %s" $key $what) -}}
{{- end -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}

{{- define "sms.problems.environment" -}}
{{- $problems := list -}}
{{- $names := list "SMS_BRIDGE_CONFIG" -}}
{{- range .Values.extraEnv -}}
{{- if has .name $names -}}
{{- $problems = append $problems (printf "extraEnv: %s is set twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}

{{- define "sms.problems.routes" -}}
{{- $problems := list -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $problems = append $problems "ingress.hosts is required where ingress.enabled: the host names of the URL that the provider gets" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $problems = append $problems "httpRoute.parentRefs is required where httpRoute.enabled: the Gateways to attach to" -}}
{{- end -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled -}}
{{- range $n, $endpoint := .Values.config.endpoints -}}
{{- if contains "${" $endpoint.path -}}
{{- $problems = append $problems (printf "config.endpoints[%d].path must be written out if ingress or httpRoute is enabled" $n) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}

{{- define "sms.problems.kafka" -}}
{{- $problems := list -}}
{{- $strimzi := .Values.strimzi -}}
{{- $create := (.Values.config.kafka | default dict).create_topics | default dict -}}
{{- if or $strimzi.topics.enabled $strimzi.user.enabled -}}
{{- if not $strimzi.cluster -}}
{{- $problems = append $problems "strimzi.cluster is required where strimzi.topics or strimzi.user is enabled: the name of the Kafka object" -}}
{{- end -}}
{{- range include "sms.topics" . | fromJsonArray -}}
{{- if contains "${" . -}}
{{- $problems = append $problems (printf "the topic %s must be written out if strimzi.topics or strimzi.user is enabled" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $strimzi.topics.enabled (not (has ($create.enabled | toString | lower) (list "<nil>" "false" "no" "off" "f" "n" "0"))) -}}
{{- $problems = append $problems "strimzi.topics.enabled and config.kafka.create_topics.enabled exclude each other: the topics would be made by whoever is first, and Strimzi would change them back to its own settings" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.brokerPorts) -}}
{{- range include "sms.brokerPorts" . | fromJsonArray -}}
{{- if not . -}}
{{- $problems = append $problems "networkPolicy.brokerPorts is required where config.kafka.bootstrap_servers does not write the ports out" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- uniq $problems | toJson -}}
{{- end }}

{{- define "sms.problems.reconcile" -}}
{{- $problems := list -}}
{{- if .Values.reconcile.enabled -}}
{{- if not (include "sms.providers" . | fromJsonArray) -}}
{{- $problems = append $problems "reconcile.enabled needs a provider in config.endpoints[]: the API to ask" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.providerPorts) (has "" (include "sms.providerPorts" . | fromJsonArray)) -}}
{{- $problems = append $problems "networkPolicy.providerPorts is required where config.endpoints[].provider.url is not written out" -}}
{{- end -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}
