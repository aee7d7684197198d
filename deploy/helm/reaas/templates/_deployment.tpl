{{- define "reaas.change.Deployment" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $service := trimPrefix "reaas-" .object.metadata.name -}}
{{- $own := get $values $service -}}
{{- $template := .object.spec.template -}}
{{- $pod := $template.spec -}}
{{- $container := index $pod.containers 0 -}}

{{- /* Replicas belong to the autoscaler where there is one; the state of runs to one service alone. */ -}}
{{- if ne $service "pretrain" -}}
{{- if $values.autoscaling.enabled -}}
{{- $_ := unset .object.spec "replicas" -}}
{{- else -}}
{{- $_ := set .object.spec "replicas" $own.replicas -}}
{{- end -}}
{{- end -}}

{{- range concat $pod.containers ($pod.initContainers | default list) -}}
{{- $name := trimPrefix "reaas-" (regexReplaceAll ":.*$" .image "") -}}
{{- $_ := set . "image" (include "reaas.image" (dict "root" $root "name" $name)) -}}
{{- end -}}
{{- if and $pod.initContainers (not $values.models.shipped) -}}
{{- $_ := unset $pod "initContainers" -}}
{{- end -}}
{{- with $values.images.pullSecrets -}}
{{- $secrets := list -}}
{{- range . -}}{{- $secrets = append $secrets (dict "name" .) -}}{{- end -}}
{{- $_ := set $pod "imagePullSecrets" $secrets -}}
{{- end -}}

{{- $_ := set $container "resources" (deepCopy $own.resources) -}}
{{- range $name, $value := $own.settings -}}
{{- $_ := set $container "env" (append ($container.env | default list) (dict "name" (printf "REAAS_%s" $name) "value" (toString $value))) -}}
{{- end -}}
{{- with $own.nodeSelector -}}{{- $_ := set $pod "nodeSelector" . -}}{{- end -}}
{{- with $own.affinity -}}{{- $_ := set $pod "affinity" . -}}{{- end -}}

{{- range $pod.volumes -}}
{{- if and (eq .name "keys") .secret -}}
{{- $_ := set .secret "secretName" $values.keys.secret -}}
{{- if $values.keys.anonymous -}}{{- $_ := set .secret "optional" true -}}{{- end -}}
{{- end -}}
{{- if .persistentVolumeClaim -}}
{{- $_ := set .persistentVolumeClaim "claimName" (include "reaas.claim" (dict "root" $root "name" .persistentVolumeClaim.claimName)) -}}
{{- end -}}
{{- end -}}

{{- if $values.tls.enabled -}}
{{- $_ := set $container "volumeMounts" (append $container.volumeMounts (dict "name" "tls" "mountPath" "/tls" "readOnly" true)) -}}
{{- $secret := dict "secretName" (printf "reaas-%s-tls" $service) "defaultMode" 288 -}}
{{- $_ := set $pod "volumes" (append $pod.volumes (dict "name" "tls" "secret" $secret)) -}}
{{- end -}}
{{- if $values.monitoring.annotations -}}
{{- $_ := set $template.metadata "annotations" (merge ($template.metadata.annotations | default dict) (dict "prometheus.io/scrape" "true")) -}}
{{- end -}}
{{- if $values.spread -}}
{{- if eq $service "pretrain" -}}
{{- $_ := set $pod "priorityClassName" "reaas-pretraining" -}}
{{- else -}}
{{- $patch := $root.Files.Get (printf "objects/patches/spread-%s.yaml" $service) | fromYaml -}}
{{- $_ := mergeOverwrite $pod $patch.spec.template.spec -}}
{{- end -}}
{{- end -}}
{{- include (printf "reaas.gpus.%s" $service) (dict "root" $root "object" .object "own" $own "container" $container) -}}
{{- end -}}

{{- define "reaas.gpus.encoder" -}}
{{- if .own.gpus -}}
{{- $_ := set .container.resources.limits "nvidia.com/gpu" (toString .own.gpus) -}}
{{- /* A GPU cannot be shared while a new pod waits for it. */ -}}
{{- $_ := set .object.spec.strategy "rollingUpdate" (dict "maxSurge" 0 "maxUnavailable" 1) -}}
{{- $_ := set .object.spec.template.spec "tolerations" (list (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule")) -}}
{{- end -}}
{{- end -}}

{{- define "reaas.gpus.f2i" -}}{{- end -}}

{{- define "reaas.gpus.pretrain" -}}
{{- $claims := dict "RUNS_CLAIM" (include "reaas.claim" (dict "root" .root "name" "reaas-pretrain-runs")) "DATA_CLAIM" (include "reaas.claim" (dict "root" .root "name" "reaas-data")) -}}
{{- $added := list -}}
{{- range $name, $claim := $claims -}}
{{- if not (has $claim (list "reaas-pretrain-runs" "reaas-data")) -}}
{{- $added = append $added (dict "name" (printf "REAAS_KUBERNETES__%s" $name) "value" $claim) -}}
{{- end -}}
{{- end -}}
{{- if .own.gpusPerNode -}}
{{- $added = append $added (dict "name" "REAAS_KUBERNETES__GPUS_PER_NODE" "value" (toString .own.gpusPerNode)) -}}
{{- end -}}
{{- $_ := set .container "env" (concat .container.env $added) -}}
{{- end -}}
