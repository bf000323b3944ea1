{{/* Names, labels, ports and the Corefile: what more than one object needs. */}}

{{- define "kdns.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kdns.fullname" -}}
{{- $name := include "kdns.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Not empty where the pods stand behind the cluster's own Service. */}}
{{- define "kdns.ofCluster" -}}
{{- if ne .Values.mode "beside" -}}true{{- end -}}
{{- end -}}

{{- define "kdns.k8sApp" -}}
{{- $usual := ternary "kube-dns" .Chart.Name (ne .Values.mode "beside") -}}
{{- default $usual .Values.k8sAppLabelOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kdns.workload" -}}
{{- default (include "kdns.fullname" .) .Values.deployment.name -}}
{{- end -}}

{{- define "kdns.configMap" -}}
{{- default (include "kdns.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{- define "kdns.serviceName" -}}
{{- $usual := ternary "kube-dns" (include "kdns.fullname" .) (ne .Values.mode "beside") -}}
{{- default $usual .Values.service.name -}}
{{- end -}}

{{- define "kdns.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kdns.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kdns.clusterRole" -}}
{{- default (include "kdns.fullname" .) .Values.clusterRole.nameOverride -}}
{{- end -}}

{{/* CoreDNS's own image cannot run this chart's arguments; a values file of its chart may name it. */}}
{{- define "kdns.image" -}}
{{- $tag := .Values.image.tag -}}
{{- $repository := .Values.image.repository -}}
{{- if eq (base $repository) "coredns" -}}
{{- $repository = "kdns" -}}
{{- $tag = "" -}}
{{- end -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $tag | toString) -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* By what the pods of this release are found. */}}
{{- define "kdns.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ include "kdns.name" . | quote }}
{{- end -}}

{{- define "kdns.labels" -}}
{{- $labels := fromYaml (include "kdns.selector" .) -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $labels "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- if .Values.isClusterService -}}
{{- $_ := set $labels "k8s-app" (include "kdns.k8sApp" .) -}}
{{- $_ := set $labels "kubernetes.io/cluster-service" "true" -}}
{{- $_ := set $labels "kubernetes.io/name" (ternary "CoreDNS" "kdns" (ne .Values.mode "beside")) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $labels .Values.customLabels) -}}
{{- end -}}

{{/* What a Deployment matches, and what its pods must carry whatever else they carry. */}}
{{- define "kdns.matchLabels" -}}
{{- if .Values.deployment.selector -}}
{{- toYaml .Values.deployment.selector -}}
{{- else -}}
{{- include "kdns.selector" . -}}
{{- end -}}
{{- end -}}

{{- define "kdns.podLabels" -}}
{{- $labels := fromYaml (include "kdns.selector" .) -}}
{{- if or .Values.isClusterService (include "kdns.ofCluster" .) -}}
{{- $_ := set $labels "k8s-app" (include "kdns.k8sApp" .) -}}
{{- end -}}
{{- $matched := fromYaml (include "kdns.matchLabels" .) -}}
{{- toYaml (mergeOverwrite $labels .Values.customLabels .Values.podLabels $matched) -}}
{{- end -}}

{{/* Annotations of an object: those of all, and those given. Takes a list: the root, more. */}}
{{- define "kdns.annotations" -}}
{{- $all := mergeOverwrite (deepCopy (index . 0).Values.customAnnotations) (index . 1) -}}
{{- if $all -}}
annotations:
  {{- toYaml $all | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* The port in the parameters of a plugin of any server block. Takes a list: root, plugin, default. */}}
{{- define "kdns.pluginPort" -}}
{{- $port := index . 2 -}}
{{- $plugin := index . 1 -}}
{{- range (index . 0).Values.servers -}}
{{- range .plugins -}}
{{- if and (eq .name $plugin) .parameters -}}
{{- with regexFind ":[0-9]+$" (toString .parameters) -}}
{{- $port = trimPrefix ":" . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $port -}}
{{- end -}}

{{/* What is served, by port: {"53": {udp, tcp, servicePort, nodePort, hostPort}}. */}}
{{- define "kdns.ports" -}}
{{- $ports := dict -}}
{{- range .Values.servers -}}
{{- $number := default 53 .port | toString -}}
{{- $found := default (dict "udp" false "tcp" false) (get $ports $number) -}}
{{- $zones := default (list (dict "zone" ".")) .zones -}}
{{- range $zones -}}
{{- $scheme := default "dns://" .scheme -}}
{{- if eq $scheme "dns://" -}}
{{- $_ := set $found "udp" true -}}
{{- if ne (toString .use_tcp) "false" -}}
{{- $_ := set $found "tcp" true -}}
{{- end -}}
{{- else if has $scheme (list "quic://" "https3://") -}}
{{- $_ := set $found "udp" true -}}
{{- else -}}
{{- $_ := set $found "tcp" true -}}
{{- end -}}
{{- end -}}
{{- $_ := set $found "servicePort" (default (default 53 .port) .servicePort | int) -}}
{{- with .nodePort }}{{ $_ := set $found "nodePort" (int .) }}{{ end -}}
{{- with .hostPort }}{{ $_ := set $found "hostPort" (int .) }}{{ end -}}
{{- $_ := set $ports $number $found -}}
{{- end -}}
{{- toYaml $ports -}}
{{- end -}}

{{/* The name of a port: kube-dns's names for port 53 where it is kube-dns, else those of the coredns chart. */}}
{{- define "kdns.portName" -}}
{{- $root := index . 0 -}}
{{- $number := index . 1 -}}
{{- $transport := index . 2 -}}
{{- if and (eq $number "53") (include "kdns.ofCluster" $root) -}}
{{- ternary "dns" "dns-tcp" (eq $transport "udp") -}}
{{- else -}}
{{- printf "%s-%s" $transport $number -}}
{{- end -}}
{{- end -}}

{{- define "kdns.corefile" -}}
{{- range $name, $directive := .Values.extraConfig }}
{{ $name }}{{ with $directive.parameters }} {{ . }}{{ end }}
{{- end }}
{{- range .Values.servers }}
{{- $port := .port }}
{{ range $index, $zone := default (list (dict "zone" ".")) .zones -}}
{{- if $index }} {{ end -}}
{{- default "" $zone.scheme -}}{{- default "." $zone.zone -}}{{- if $port }}:{{ $port }}{{ end -}}
{{- end }} {
    {{- range .plugins }}
    {{ .name }}{{ if hasKey . "parameters" }}{{ with toString .parameters }} {{ . }}{{ end }}{{ end }}{{ with .configBlock }} {
{{ . | indent 8 }}
    }{{ end }}
    {{- end }}
}
{{- end }}
{{- end -}}

{{/* Not empty if pods must be listed: as told, else as the Corefile says that is, or will be, mounted. */}}
{{- define "kdns.listsPods" -}}
{{- if kindIs "bool" .Values.rbac.pods -}}
{{- if .Values.rbac.pods }}true{{ end -}}
{{- else -}}
{{- $text := include "kdns.corefile" . -}}
{{- if or .Values.existingConfigMap .Values.deployment.skipConfig -}}
{{- $there := lookup "v1" "ConfigMap" .Release.Namespace (include "kdns.configMap" .) -}}
{{- with $there }}{{ $text = default "" .data.Corefile }}{{ end -}}
{{- end -}}
{{- if regexMatch "(?m)^\\s*(pods\\s+verified|autopath\\b)" $text }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* Not empty if EndpointSlices must be: unless every `kubernetes` says noendpoints. */}}
{{- define "kdns.listsSlices" -}}
{{- $text := include "kdns.corefile" . -}}
{{- $asking := len (regexFindAll "(?m)^\\s*kubernetes\\b" $text -1) -}}
{{- $without := len (regexFindAll "(?m)^\\s*noendpoints\\b" $text -1) -}}
{{- if or .Values.existingConfigMap .Values.deployment.skipConfig (gt $asking $without) }}true{{ end -}}
{{- end -}}

{{- define "kdns.priorityClass" -}}
{{- $usual := ternary "system-cluster-critical" "" (ne .Values.mode "beside") -}}
{{- default $usual .Values.priorityClassName -}}
{{- end -}}

{{/* Not empty if CoreDNS's PodDisruptionBudget covers these pods too: a pod with two cannot be evicted. */}}
{{- define "kdns.hasBudget" -}}
{{- $root := . -}}
{{- $labels := dict "k8s-app" (include "kdns.k8sApp" .) -}}
{{- if include "kdns.ofCluster" . -}}
{{- range (lookup "policy/v1" "PodDisruptionBudget" .Release.Namespace "").items -}}
{{- if and (ne .metadata.name (include "kdns.fullname" $root)) (eq (dig "spec" "selector" "matchLabels" dict . | toJson) ($labels | toJson)) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What cannot work is told before anything is applied. */}}
{{- define "kdns.validate" -}}
{{- if .Values.rbac.multiclusterEnable -}}
{{- fail "rbac.multiclusterEnable: kdns has no directive option `multicluster` yet; expected false" -}}
{{- end -}}
{{- if and (eq .Values.mode "nodelocal") (or .Values.hpa.enabled .Values.autoscaler.enabled) -}}
{{- fail "mode nodelocal runs one pod on each node; expected hpa.enabled and autoscaler.enabled false" -}}
{{- end -}}
{{- if and (include "kdns.ofCluster" .) (eq (include "kdns.serviceName" .) "kube-dns") (ne .Release.Namespace "kube-system") -}}
{{- fail (printf "mode %s stands behind the Service kube-dns of kube-system; expected --namespace kube-system, got %s" .Values.mode .Release.Namespace) -}}
{{- end -}}
{{- end -}}

{{/* By the names that a values file of the coredns chart may use in its topologySpreadConstraints. */}}
{{- define "coredns.name" -}}{{- include "kdns.name" . -}}{{- end -}}
{{- define "coredns.fullname" -}}{{- include "kdns.fullname" . -}}{{- end -}}
