//! Texts that a thread writes one after another into memory that they share.
//!
//! A line of an access log is written here and dropped by the thread that writes the file; the value of a header lives as long
//! as its request. Each would be an allocation, and one that another thread frees is dear. So they are cut from pages: what is
//! counted is references, and a page goes when the last text on it has gone.

use std::cell::Cell;
use std::thread::LocalKey;

use bytes::{Bytes, BytesMut};

/// Some hundred lines, which are gone some milliseconds later.
const LINES: usize = 32 * 1024;
/// Longer texts do not keep the room that they took.
const LONG: usize = 64 * 1024;
/// Some values of headers. Of these one may stay for as long as a request takes, and then keeps its page.
const VALUES: usize = 1024;

struct Draft {
    text: String,
    page: BytesMut,
}

thread_local! {
    static DRAFT: Cell<Option<Draft>> = const { Cell::new(None) };
    static VALUE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// What `write` writes.
pub(super) fn line(write: impl FnOnce(&mut String)) -> Bytes {
    let mut draft = take(&DRAFT).unwrap_or_else(|| Draft {
        text: String::with_capacity(512),
        page: BytesMut::with_capacity(LINES),
    });
    draft.text.clear();
    write(&mut draft.text);
    let line = cut(&mut draft.page, draft.text.as_bytes());
    if draft.text.capacity() <= LONG {
        give_back(&DRAFT, draft);
    }
    line
}

/// A copy of the value of a header.
pub(super) fn value(text: &[u8]) -> Bytes {
    let mut page = take(&VALUE).unwrap_or_else(|| BytesMut::with_capacity(VALUES));
    let value = cut(&mut page, text);
    give_back(&VALUE, page);
    value
}

fn cut(page: &mut BytesMut, text: &[u8]) -> Bytes {
    page.extend_from_slice(text);
    page.split().freeze()
}

/// What this thread has kept; `None` if it has nothing, is at it, or is ending.
fn take<T>(kept: &'static LocalKey<Cell<Option<T>>>) -> Option<T> {
    kept.try_with(Cell::take).ok().flatten()
}

fn give_back<T>(kept: &'static LocalKey<Cell<Option<T>>>, one: T) {
    // A thread that is ending needs it no more.
    let _ = kept.try_with(|kept| kept.set(Some(one)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_share_a_page_and_stay_what_they_are() {
        let lines: Vec<_> = (0..1_000)
            .map(|n| line(|text| text.push_str(&format!("line {n}\n"))))
            .collect();
        for (n, line) in lines.iter().enumerate() {
            assert_eq!(**line, *format!("line {n}\n").as_bytes());
        }
        let neighbours = lines.windows(2).filter(|pair| {
            let [one, next] = pair else { return false };
            one.as_ptr_range().end == next.as_ptr()
        });
        assert!(neighbours.count() > 990, "a page is shared");
    }

    #[test]
    fn a_long_text_does_not_keep_its_room() {
        let long = "x".repeat(3 * LONG);
        assert_eq!(*line(|text| text.push_str(&long)), *long.as_bytes());
        assert!(take(&DRAFT).is_none());
    }

    #[test]
    fn a_line_within_a_line_is_one_too() {
        let mut within = Bytes::new();
        let around = line(|text| {
            text.push_str("around");
            within = line(|text| text.push_str("within"));
        });
        assert_eq!((&*around, &*within), (&b"around"[..], &b"within"[..]));
    }

    #[test]
    fn values_are_small_pages() {
        let values: Vec<_> = (0..100_u32).map(|n| value(&n.to_be_bytes())).collect();
        for (n, value) in (0..100_u32).zip(&values) {
            assert_eq!(**value, n.to_be_bytes());
        }
    }
}
