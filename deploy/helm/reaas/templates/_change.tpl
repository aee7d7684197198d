{{- /* reaas.change (dict "root" . "object" OBJECT): changes the object in place, by its kind. */ -}}
{{- define "reaas.change" -}}
{{- $changes := list "Deployment" "ConfigMap" "PersistentVolumeClaim" "HorizontalPodAutoscaler" "Certificate" "RoleBinding" "Gateway" "GRPCRoute" "Ingress" "ServiceMonitor" "PriorityClass" -}}
{{- if has .object.kind $changes -}}
{{- include (printf "reaas.change.%s" .object.kind) . -}}
{{- end -}}
{{- end -}}

{{- define "reaas.change.ConfigMap" -}}
{{- if eq .object.metadata.name "reaas-config" -}}
{{- $data := .object.data -}}
{{- if .root.Values.keys.anonymous -}}
{{- $_ := unset $data "REAAS_API_KEYS_FILE" -}}
{{- $_ := set $data "REAAS_ALLOW_ANONYMOUS" "true" -}}
{{- end -}}
{{- if .root.Values.tls.enabled -}}
{{- $_ := unset $data "REAAS_ALLOW_PLAINTEXT" -}}
{{- $_ := mergeOverwrite $data (dict "REAAS_TLS" "true" "REAAS_TLS_CERT" "/tls/tls.crt" "REAAS_TLS_KEY" "/tls/tls.key") -}}
{{- end -}}
{{- range $name, $value := .root.Values.settings -}}
{{- $_ := set $data (printf "REAAS_%s" $name) (toString $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "reaas.change.PersistentVolumeClaim" -}}
{{- $own := dict "reaas-models" .root.Values.models "reaas-pretrain-runs" .root.Values.pretrain.runs "reaas-data" .root.Values.pretrain.data -}}
{{- $values := get $own .object.metadata.name -}}
{{- if $values.existingClaim -}}
{{- $_ := set .object "absent" true -}}
{{- end -}}
{{- $_ := set .object.spec "accessModes" (list .root.Values.persistence.accessMode) -}}
{{- $_ := set .object.spec.resources.requests "storage" $values.size -}}
{{- with .root.Values.persistence.storageClass -}}
{{- $_ := set $.object.spec "storageClassName" . -}}
{{- end -}}
{{- end -}}

{{- define "reaas.change.HorizontalPodAutoscaler" -}}
{{- $values := .root.Values.autoscaling -}}
{{- $_ := set .object.spec "minReplicas" $values.min -}}
{{- $_ := set .object.spec "maxReplicas" $values.max -}}
{{- $_ := set (index .object.spec.metrics 0).resource.target "averageUtilization" $values.cpuPercent -}}
{{- end -}}

{{- define "reaas.change.Certificate" -}}
{{- if and (eq .object.metadata.name "reaas-pretrain") (not .root.Values.pretrain.enabled) -}}
{{- $_ := set .object "absent" true -}}
{{- end -}}
{{- $_ := set .object.spec "issuerRef" .root.Values.tls.issuer -}}
{{- $names := list -}}
{{- range .object.spec.dnsNames -}}
{{- $names = append $names (regexReplaceAll "^(reaas-[a-z0-9]+)\\.reaas" . (printf "${1}.%s" $.root.Release.Namespace)) -}}
{{- end -}}
{{- $_ := set .object.spec "dnsNames" $names -}}
{{- end -}}

{{- define "reaas.change.RoleBinding" -}}
{{- range .object.subjects -}}
{{- $_ := set . "namespace" $.root.Release.Namespace -}}
{{- end -}}
{{- end -}}

{{- define "reaas.change.ServiceMonitor" -}}
{{- if and (eq .object.metadata.name "reaas-pretrain") (not .root.Values.pretrain.enabled) -}}
{{- $_ := set .object "absent" true -}}
{{- end -}}
{{- end -}}

{{- /* Of the cluster, not of a namespace. */ -}}
{{- define "reaas.change.PriorityClass" -}}
{{- $_ := unset .object.metadata "namespace" -}}
{{- end -}}

{{- define "reaas.change.Gateway" -}}
{{- $outside := .root.Values.outside -}}
{{- $_ := set .object.spec "gatewayClassName" $outside.className -}}
{{- range .object.spec.listeners -}}
{{- $_ := set . "hostname" $outside.host -}}
{{- end -}}
{{- include "reaas.issuer" . -}}
{{- end -}}

{{- define "reaas.change.GRPCRoute" -}}
{{- $_ := set .object.spec "hostnames" (list .root.Values.outside.host) -}}
{{- end -}}

{{- define "reaas.change.Ingress" -}}
{{- $outside := .root.Values.outside -}}
{{- $_ := set .object.spec "ingressClassName" $outside.className -}}
{{- range .object.spec.tls -}}
{{- $_ := set . "hosts" (list $outside.host) -}}
{{- end -}}
{{- range .object.spec.rules -}}
{{- $_ := set . "host" $outside.host -}}
{{- end -}}
{{- include "reaas.issuer" . -}}
{{- end -}}

{{- define "reaas.issuer" -}}
{{- $annotations := .object.metadata.annotations -}}
{{- if .root.Values.outside.issuer -}}
{{- $_ := set $annotations "cert-manager.io/cluster-issuer" .root.Values.outside.issuer -}}
{{- else -}}
{{- $_ := unset $annotations "cert-manager.io/cluster-issuer" -}}
{{- end -}}
{{- end -}}
