{{- /* What was asked for: the components in it, and whether it can be. */ -}}

{{- define "reaas.components" -}}
- base
{{- with .Values }}
{{- if .pretrain.enabled }}
- pretrain
{{- end }}
{{- if .monitoring.dashboards }}
- observability
{{- end }}
{{- if .monitoring.operator }}
- prometheus-operator
{{- end }}
{{- if .networkPolicies }}
- network-policies
{{- end }}
{{- if and .tls.enabled .tls.certManager }}
- tls
{{- end }}
{{- if .autoscaling.enabled }}
- hpa
{{- end }}
{{- if .spread }}
- spread
{{- end }}
{{- if .outside.by }}
- {{ .outside.by }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "reaas.check" -}}
{{- if and .Values.pretrain.enabled .Values.keys.anonymous -}}
{{- fail "pretrain.enabled needs keys: it serves operators only. Set keys.anonymous to false and make the Secret that keys.secret names." -}}
{{- end -}}
{{- if and .Values.spread (ne .Values.persistence.accessMode "ReadWriteMany") (not .Values.models.existingClaim) -}}
{{- fail "spread puts replicas on several nodes, which needs persistence.accessMode ReadWriteMany, or models.existingClaim with such a volume." -}}
{{- end -}}
{{- end -}}

{{- /* reaas.image (dict "root" . "name" "encoder"): the image of a service. */ -}}
{{- define "reaas.image" -}}
{{- $images := .root.Values.images -}}
{{- $name := printf "%sreaas-%s" $images.registry .name -}}
{{- with get $images.digests .name -}}
{{- printf "%s@%s" $name . -}}
{{- else -}}
{{- printf "%s:%s" $name ($images.tag | default $.root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* reaas.claim (dict "root" . "name" "reaas-models"): the claim behind a volume. */ -}}
{{- define "reaas.claim" -}}
{{- $own := dict "reaas-models" .root.Values.models "reaas-pretrain-runs" .root.Values.pretrain.runs "reaas-data" .root.Values.pretrain.data -}}
{{- (get $own .name).existingClaim | default .name -}}
{{- end -}}
