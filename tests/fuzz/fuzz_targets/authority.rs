//! Hosts and authorities: what is read is written the same way, and read again is the same.
#![no_main]

use inmesh::hbone::Authority;
use inmesh::matcher::HostPattern;
use inmesh::name::Host;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok((host, port)) = Host::parse_authority(text) {
        assert_eq!(host.as_str(), host.as_str().to_ascii_lowercase());
        assert_eq!(Host::parse(host.as_str()).as_ref(), Ok(&host));
        assert_ne!(port, Some(0));
        // Whatever is a host of its own is matched by itself.
        if let Ok(pattern) = HostPattern::parse(host.as_str()) {
            let is_pattern = host.as_str().contains('*');
            assert!(is_pattern || pattern.matches(host.as_str()), "{host}");
        }
    }
    if let Ok(authority) = Authority::parse(text) {
        assert_ne!(authority.port(), 0);
        assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
    }
});
