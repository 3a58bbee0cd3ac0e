//! A path in any mode: normalizing is total, leaves nothing to normalize, and never makes a way upwards.
#![no_main]

use inmesh::policy::normalize::{PathNormalization, normalize};
use libfuzzer_sys::fuzz_target;

const MODES: [PathNormalization; 5] = [
    PathNormalization::None,
    PathNormalization::Default,
    PathNormalization::Base,
    PathNormalization::MergeSlashes,
    PathNormalization::DecodeAndMergeSlashes,
];

/// A segment as any server might read it.
fn is_dots(segment: &str) -> bool {
    let lower = segment.to_ascii_lowercase().replace("%2e", ".");
    lower == "." || lower == ".."
}

fuzz_target!(|text: &str| {
    for mode in MODES {
        let Ok(once) = normalize(text, mode) else { continue };
        assert_eq!(normalize(&once, mode).as_deref(), Ok(&*once), "{mode:?}");
        if mode == PathNormalization::None || once == "*" {
            continue;
        }
        assert!(once.starts_with('/') && !once.contains(['\\', '#']), "{once:?}");
        assert!(!once.split('/').any(is_dots), "{once:?} with {mode:?}");
        let lower = once.to_ascii_lowercase();
        assert!(!lower.contains("%00"), "{once:?}");
        if mode == PathNormalization::Default {
            assert!(
                !once
                    .split('/')
                    .any(|segment| is_dots(segment.split(';').next().unwrap_or(""))),
                "{once:?}"
            );
        }
        if matches!(
            mode,
            PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes
        ) {
            assert!(!once.contains("//"), "{once:?}");
        }
        if mode == PathNormalization::DecodeAndMergeSlashes {
            assert!(!lower.contains("%2f") && !lower.contains("%5c"), "{once:?}");
        }
    }
});
