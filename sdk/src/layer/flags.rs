//! Envoy's response flags, where more than one may hold.

/// What became of a request, beside its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// The flag of the refusal; `-` if there was none.
    pub(super) cause: &'static str,
    /// A fault delayed the request (`DI`).
    pub(super) delayed: bool,
    /// It would have been sent again, had its policy allowed for more attempts (`URX`).
    pub(super) exhausted: bool,
}

macro_rules! table {
    ($flags:expr; $($before:literal)*; $($after:literal)*) => {
        match ($flags.cause, $flags.delayed, $flags.exhausted) {
            $(
                ($before, false, false) => $before,
                ($before, true, false) => concat!($before, ",DI"),
                ($before, false, true) => concat!($before, ",URX"),
                ($before, true, true) => concat!($before, ",DI,URX"),
            )*
            $(
                ($after, false, false) => $after,
                ($after, true, false) => concat!("DI,", $after),
                ($after, false, true) => concat!($after, ",URX"),
                ($after, true, true) => concat!("DI,", $after, ",URX"),
            )*
            (other, false, false) => other,
            (_, true, false) => "DI",
            (_, false, true) => "URX",
            (_, true, true) => "DI,URX",
        }
    };
}

impl Flags {
    /// Separated by commas, in Envoy's order. Static, because they are a metric's label.
    pub(super) fn as_str(self) -> &'static str {
        table!(self; "UH" "UT" "UR" "UF" "UC" "UO" "NR"; "FI" "RL" "UAEX" "RLSE" "SI" "DPE" "UPE" "UMSDR" "OM")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_in_envoys_order() {
        let text = |cause, delayed, exhausted| {
            Flags {
                cause,
                delayed,
                exhausted,
            }
            .as_str()
        };
        assert_eq!(text("-", false, false), "-");
        assert_eq!(text("-", true, false), "DI");
        assert_eq!(text("-", false, true), "URX");
        assert_eq!(text("UF", false, true), "UF,URX");
        assert_eq!(text("UF", true, true), "UF,DI,URX");
        assert_eq!(text("FI", true, false), "DI,FI");
        assert_eq!(text("NC", false, false), "NC");
    }
}
