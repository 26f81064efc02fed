{{- define "gridtokenx.labels" -}}
app.kubernetes.io/name: gridtokenx
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "gridtokenx.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}
{{/* Non-root, nothing writable but what is mounted, no rights on the node. */}}
{{- define "gridtokenx.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "gridtokenx.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{- define "gridtokenx.env" -}}
- {name: DATABASE_URL_FILE, value: /run/secrets/connections/database_url}
- {name: INFLUXDB_TOKEN_FILE, value: /run/secrets/connections/influxdb_token}
- {name: INFLUXDB_URL, value: {{ .Values.influxdb.url | quote }}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ .Values.kafka.bootstrapServers | quote }}}
- {name: SOLANA_RPC_URL, value: {{ .Values.solanaRpcUrl | quote }}}
- {name: GRIDTOKENX_NETWORK, value: {{ .Values.network | quote }}}
- {name: GRIDTOKENX_DATA_DIR, value: /data}
- {name: GRIDTOKENX_KEYS_DIR, value: /keys}
- {name: AUTHORITY_WALLET_PATH, value: /keys/authority.json}
- {name: DAGSTER_HOME, value: /opt/dagster}
- {name: TMPDIR, value: /tmp}
{{- if .Values.backups.recipient }}
- {name: GRIDTOKENX_BACKUP_DIR, value: /backups}
- {name: GRIDTOKENX_BACKUP_RECIPIENT, value: {{ .Values.backups.recipient | quote }}}
- {name: GRIDTOKENX_BACKUP_KEEP_DAYS, value: {{ .Values.backups.keepDays | quote }}}
- {name: GRIDTOKENX_BACKUP_DATABASE_URL_FILE, value: /run/secrets/connections/backup_database_url}
{{- end }}
{{- end }}
{{- define "gridtokenx.mounts" -}}
- {name: connections, mountPath: /run/secrets/connections, readOnly: true}
- {name: data, mountPath: /data}
{{- if .Values.backups.recipient }}
- {name: backups, mountPath: /backups}
{{- end }}
- {name: dagster, mountPath: /opt/dagster}
- {name: tmp, mountPath: /tmp}
{{- end }}
{{- define "gridtokenx.volumes" -}}
- {name: connections, secret: {secretName: {{ .Values.secrets.connections }}, defaultMode: 0440}}
- {name: data, persistentVolumeClaim: {claimName: {{ .Release.Name }}-data}}
{{- if .Values.backups.recipient }}
- {name: backups, persistentVolumeClaim: {claimName: {{ .Release.Name }}-backups}}
{{- end }}
- {name: dagster, configMap: {name: {{ .Release.Name }}-dagster}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
{{- end }}
