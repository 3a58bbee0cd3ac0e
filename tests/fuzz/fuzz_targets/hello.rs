//! The beginning of a connection: the first byte says in pieces of which size the rest comes. What is heard does not depend
//! on it, is settled in time, and names a host.
#![no_main]

use inmesh::name::Host;
use inmesh::policy::connection::{Heard, HelloReader, LONGEST_HELLO};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = HelloReader::default().read(bytes);
    let (mut reader, mut heard) = (HelloReader::default(), Heard::More);
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        let before = heard;
        heard = reader.read(piece);
        assert!(
            before == Heard::More || before == heard,
            "it was settled: {before:?}, {heard:?}"
        );
    }
    assert_eq!(heard, whole);
    assert!(heard != Heard::More || bytes.len() < LONGEST_HELLO);
    if let Heard::Tls(Some(name)) = heard {
        assert_eq!(Host::parse(name.as_str()), Ok(name));
    }
});
