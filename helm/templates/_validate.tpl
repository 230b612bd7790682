{{/*
What a schema cannot say: the rules of files/validation.json, which are the program's own and the
chart's (`make schema`). Each kind of rule is a template below. Every problem is reported at once.
*/}}
{{- define "sms.validate" -}}
{{- $root := . -}}
{{- $problems := include "sms.problems" . | fromJsonArray -}}
{{- range $rule := ($root.Files.Get "files/validation.json" | fromJson).rules -}}
{{- if include "sms.applies" (list $root (default dict $rule.if)) -}}
{{- $others := list -}}
{{- with $rule.other }}{{ $others = include "sms.values" (list $root .) | fromJsonArray }}{{ end -}}
{{- $earlier := list -}}
{{- range $key := $rule.keys -}}
{{- range $one := include "sms.values" (list $root $key) | fromJsonArray -}}
{{- $what := include (printf "sms.rule.%s" $rule.rule) (dict "rule" $rule "one" $one "others" $others "earlier" $earlier) | trim -}}
{{- if $what }}{{ $problems = append $problems (printf "%s: %s" $one.key (default $what $rule.said)) }}{{ end -}}
{{- $earlier = append $earlier $one -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "these values cannot be deployed:\n- %s" (join "\n- " (uniq $problems))) -}}
{{- end -}}
{{- end }}

{{/* Whether each key has one of its values: (list ROOT (dict KEY VALUES …)). */}}
{{- define "sms.applies" -}}
{{- $root := index . 0 -}}
{{- $no := "" -}}
{{- range $key, $values := index . 1 -}}
{{- range include "sms.values" (list $root $key) | fromJsonArray -}}
{{- if not (has .text $values) }}{{ $no = "no" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- ternary "" "yes" (eq $no "no") -}}
{{- end }}

{{- define "sms.rule.Given" -}}
{{- if not .one.given }}required{{ end -}}
{{- end }}

{{- define "sms.rule.Matches" -}}
{{- if and .one.given (not (regexMatch .rule.pattern .one.text)) }}must match {{ .rule.pattern }}{{ end -}}
{{- end }}

{{- define "sms.rule.Avoids" -}}
{{- if and .one.given (regexMatch .rule.pattern .one.text) }}must not match {{ .rule.pattern }}{{ end -}}
{{- end }}

{{- define "sms.rule.Distinct" -}}
{{- if has .one.text (default list .rule.taken) }}is the chart's own{{ end -}}
{{- if .one.known -}}
{{- $same := "" -}}
{{- range .earlier }}{{ if and (eq .text $.one.text) (not $same) }}{{ $same = .key }}{{ end }}{{ end -}}
{{- with $same }}must differ from {{ . }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "sms.rule.Differs" -}}
{{- range .others -}}
{{- if and $.one.known (eq .text $.one.text) }}must differ from {{ .key }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "sms.rule.Decides" -}}
{{- $decided := index .others (len .earlier) -}}
{{- range $n, $before := .earlier -}}
{{- $other := index $.others $n -}}
{{- if and $.one.known (eq $before.text $.one.text) $other.known $decided.known (ne $other.text $decided.text) -}}
the same as {{ $before.key }}, but with another {{ $.rule.other | splitList "." | last }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "sms.rule.Needs" -}}
{{- $other := first .others -}}
{{- if and .one.given (not $other.given) (or (not .rule.when) (has .one.text .rule.when)) }}needs {{ $other.key }}{{ end -}}
{{- end }}

{{- define "sms.rule.OnlyWith" -}}
{{- $other := first .others -}}
{{- if and .one.given $other.known (not (has $other.text .rule.values)) }}only with {{ $other.key }} {{ join " or " .rule.values }}{{ end -}}
{{- end }}

{{- define "sms.rule.Among" -}}
{{- $known := default list .rule.taken -}}
{{- range .others }}{{ $known = append $known .text }}{{ end -}}
{{- if not (has .one.text $known) }}is none of {{ .rule.other }}{{ end -}}
{{- end }}

{{- define "sms.rule.AtLeast" -}}
{{- $other := first .others -}}
{{- if and .one.known $other.known (lt (include "sms.quantity" .one.text | float64) (include "sms.quantity" $other.text | float64)) }}must be at least {{ $other.key }}{{ end -}}
{{- end }}

{{- define "sms.rule.MoreThan" -}}
{{- $other := first .others -}}
{{- if and .one.known $other.known (le (include "sms.quantity" .one.text | float64) (include "sms.quantity" $other.text | float64)) }}must be more than {{ $other.key }}{{ end -}}
{{- end }}

{{/* A number, or a quantity of Kubernetes's such as 250m or 1Gi, in units. */}}
{{- define "sms.quantity" -}}
{{- $suffix := regexFind "([numkMGTPE]|[KMGTPE]i)$" . -}}
{{- $factors := dict "n" 1e-9 "u" 1e-6 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
  "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (trimSuffix $suffix . | replace "_" "" | trim | float64) (index $factors $suffix | default 1.0) -}}
{{- end }}

{{/* What has to be calculated first. */}}
{{- define "sms.problems" -}}
{{- $problems := list -}}
{{- $name := include "sms.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- $problems = append $problems (printf "fullnameOverride: set it: the objects' name would be %s, and a Service's is of a-z, 0-9 and -, and begins with a letter" $name) -}}
{{- end -}}
{{- if gt (len (include "sms.config" .)) 100000 -}}
{{- $problems = append $problems "config: longer than 100,000 bytes: the annotations of a pod hold 256 KiB in all" -}}
{{- end -}}
{{- if and .Values.reconcile.enabled (not (include "sms.texts" (list . "config.endpoints[].provider.url") | fromJsonArray)) -}}
{{- $problems = append $problems "reconcile.enabled: needs a provider in config.endpoints[]: the API to ask" -}}
{{- end -}}
{{- $needed := include "sms.shutdownSeconds" . | float64 -}}
{{- $given := include "sms.terminationGracePeriodSeconds" . | float64 -}}
{{- if lt $given $needed -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %v is less than config.server.drain_delay_seconds, config.server.shutdown_grace_seconds and a sleep of lifecycle.preStop together (%v): answers would be cut off" $given $needed) -}}
{{- end -}}
{{- /* What the program leaves for requests of its grace: see bridge/gateway/server.py. */ -}}
{{- $grace := include "sms.setting" (list . "server.shutdown_grace_seconds") | float64 -}}
{{- $forRequests := maxf (subf (mulf $grace 0.8) 0.5) (divf $grace 2) -}}
{{- $body := include "sms.setting" (list . "server.body_timeout_seconds") | float64 -}}
{{- $publish := include "sms.setting" (list . "kafka.publish_timeout_seconds") | float64 -}}
{{- if gt (addf $body $publish) $forRequests -}}
{{- $problems = append $problems (printf "config.server.shutdown_grace_seconds: of %v seconds %v are for requests: too short for config.server.body_timeout_seconds (%v) and config.kafka.publish_timeout_seconds (%v) together" $grace $forRequests $body $publish) -}}
{{- end -}}
{{- $problems | toJson -}}
{{- end }}
