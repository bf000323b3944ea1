{{/* The pod of the Deployment and of the DaemonSet. */}}
{{- define "kdns.pod" -}}
metadata:
  labels:
    {{- include "kdns.podLabels" . | nindent 4 }}
  annotations:
    {{- if not (or .Values.existingConfigMap .Values.deployment.skipConfig) }}
    checksum/config: {{ include "kdns.corefile" . | sha256sum }}
    {{- end }}
    {{- toYaml (merge (deepCopy .Values.podAnnotations) .Values.customAnnotations (dict "kubectl.kubernetes.io/default-container" "kdns")) | nindent 4 }}
spec:
  serviceAccountName: {{ include "kdns.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.automountServiceAccountToken }}
  enableServiceLinks: false
  {{- with include "kdns.priorityClass" . }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $dnsConfig := default .Values.deployment.dnsConfig .Values.dnsConfig }}
  {{- if .Values.dnsConfig }}
  dnsPolicy: None
  {{- else if or .Values.isClusterService (ne .Values.deployment.dnsPolicy "Default") }}
  dnsPolicy: {{ .Values.deployment.dnsPolicy }}
  {{- end }}
  {{- with $dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $tolerations := ternary .Values.nodelocal.tolerations .Values.tolerations (eq .Values.mode "nodelocal") }}
  {{- with $tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .Values.mode "nodelocal" }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $counted := dict "matchLabels" (fromYaml (include "kdns.matchLabels" $)) }}
    {{- range . }}
    {{- $constraint := fromYaml (tpl (toYaml .) $) }}
    - {{- toYaml (merge $constraint (dict "labelSelector" (ternary nil $counted (hasKey $constraint "labelSelector")))) | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: kdns
      image: {{ include "kdns.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - -conf
        - /etc/coredns/Corefile
        {{- if .Values.state.enabled }}
        - --state-dir
        - /var/lib/kdns
        {{- end }}
        {{- if .Values.lenient }}
        - --lenient
        {{- end }}
        {{- if .Values.workers }}
        - --workers
        - {{ .Values.workers | quote }}
        {{- end }}
      {{- with .Values.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range $number, $port := fromYaml (include "kdns.ports" .) }}
        {{- range $transport := list "udp" "tcp" }}
        {{- if get $port $transport }}
        - name: {{ include "kdns.portName" (list $ $number $transport) }}
          containerPort: {{ $number }}
          protocol: {{ upper $transport }}
          {{- with $port.hostPort }}
          hostPort: {{ . }}
          {{- end }}
        {{- end }}
        {{- end }}
        {{- end }}
        - name: metrics
          containerPort: {{ include "kdns.pluginPort" (list . "prometheus" "9153") }}
          protocol: TCP
        - name: health
          containerPort: {{ include "kdns.pluginPort" (list . "health" "8080") }}
          protocol: TCP
        - name: ready
          containerPort: {{ include "kdns.pluginPort" (list . "ready" "8181") }}
          protocol: TCP
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .Values.livenessProbe.enabled }}
      livenessProbe:
        httpGet:
          path: /health
          port: health
        initialDelaySeconds: {{ .Values.livenessProbe.initialDelaySeconds }}
        periodSeconds: {{ .Values.livenessProbe.periodSeconds }}
        timeoutSeconds: {{ .Values.livenessProbe.timeoutSeconds }}
        failureThreshold: {{ .Values.livenessProbe.failureThreshold }}
        successThreshold: {{ .Values.livenessProbe.successThreshold }}
      {{- end }}
      {{- if .Values.readinessProbe.enabled }}
      readinessProbe:
        httpGet:
          path: /ready
          port: ready
        initialDelaySeconds: {{ .Values.readinessProbe.initialDelaySeconds }}
        periodSeconds: {{ .Values.readinessProbe.periodSeconds }}
        timeoutSeconds: {{ .Values.readinessProbe.timeoutSeconds }}
        failureThreshold: {{ .Values.readinessProbe.failureThreshold }}
        successThreshold: {{ .Values.readinessProbe.successThreshold }}
      {{- end }}
      {{- if .Values.preStopSleep }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSleep }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config-volume
          mountPath: /etc/coredns
          readOnly: true
        {{- if .Values.state.enabled }}
        - name: state
          mountPath: /var/lib/kdns
        {{- end }}
        {{- range .Values.extraSecrets }}
        - name: {{ .name }}
          mountPath: {{ .mountPath }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config-volume
      configMap:
        name: {{ include "kdns.configMap" . }}
        {{- if not .Values.existingConfigMap }}
        items:
          - key: Corefile
            path: Corefile
          {{- range .Values.zoneFiles }}
          - key: {{ .filename }}
            path: {{ .filename }}
          {{- end }}
        {{- end }}
    {{- if .Values.state.enabled }}
    - name: state
      {{- toYaml (default (dict "emptyDir" (dict "sizeLimit" "256Mi")) .Values.state.volume) | nindent 6 }}
    {{- end }}
    {{- range .Values.extraSecrets }}
    - name: {{ .name }}
      secret:
        secretName: {{ .name }}
        defaultMode: {{ default 288 .defaultMode }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
