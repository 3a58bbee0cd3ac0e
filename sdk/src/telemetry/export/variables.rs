//! OpenTelemetry's variables: which of those that are set have no effect here.

/// What is read somewhere. Of the collector's own variables there are forms for traces and for metrics, too.
const READ: [&str; 16] = [
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_PROPAGATORS",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    // Who injects agents into pods sets these, and means no SDK of Rust's.
    "OTEL_NODE_IP",
    "OTEL_POD_IP",
    "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME",
];
const COLLECTOR: [&str; 8] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "TIMEOUT",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "COMPRESSION",
];

/// The names among these that are OpenTelemetry's and that nobody here reads, such as `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`.
pub(super) fn unread(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_read = |name: &str| {
        let collector = name.strip_prefix("OTEL_EXPORTER_OTLP_").map(|rest| {
            let rest = rest.strip_prefix("TRACES_").unwrap_or(rest);
            rest.strip_prefix("METRICS_").unwrap_or(rest)
        });
        READ.contains(&name) || collector.is_some_and(|name| COLLECTOR.contains(&name))
    };
    let mut unread: Vec<String> = names
        .filter(|name| name.starts_with("OTEL_") && !is_read(name))
        .collect();
    unread.sort();
    unread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_and_not_read_is_named() {
        let set = [
            "PATH",
            "OTEL_SERVICE_NAME",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        ];
        assert_eq!(
            unread(set.map(str::to_owned).into_iter()),
            [
                "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            ]
        );
    }
}
