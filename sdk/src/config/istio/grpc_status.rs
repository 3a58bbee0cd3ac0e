//! The statuses of gRPC, as faults name them.

/// By number (gRPC, "Status codes and their use in gRPC").
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a status.
pub fn grpc_status(name: &str) -> Option<u16> {
    NAMES.iter().position(|it| *it == name).map(|at| at as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_grpc() {
        assert_eq!(grpc_status("OK"), Some(0));
        assert_eq!(grpc_status("UNAVAILABLE"), Some(14));
        assert_eq!(grpc_status("UNAUTHENTICATED"), Some(16));
        assert_eq!(grpc_status("unavailable"), None);
    }
}
