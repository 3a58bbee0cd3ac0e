//! Values by a few bytes that a text has somewhere.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use smallvec::SmallVec;

/// A few bytes of a text, side by side: 8 of them, or 4, 2 or 1 of a text that has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Window {
    /// Of so many bytes; a power of two.
    width: usize,
    /// The bytes as a number, which is compared and hashed in one step.
    bytes: u64,
}

/// Values filed under windows. What a look-up costs follows the length of the text, not how many values there are: each
/// place of the text is one probe of a hash table, of which the part that says "not here" takes a byte for each window
/// and stays in a processor's nearest cache.
#[derive(Debug)]
pub(super) struct Windows<T> {
    /// By 8 bytes, 4, 2 and 1.
    positions: [Positions; 4],
    values: Vec<T>,
}

/// Where the value of a window is.
type Positions = HashMap<u64, u32, BuildHasherDefault<Folded>>;

/// A hash for numbers that come from configuration, not from a caller: cheap, and every bit depends on every bit.
#[derive(Debug, Default)]
struct Folded(u64);

/// The values that a text had already. Most texts have few; one that repeats itself shall not cost a try each time.
#[derive(Debug, Default)]
struct Seen {
    first: SmallVec<[u32; FIRST]>,
    /// A bit for each value, once there are more.
    all: Vec<u64>,
}

/// So many are compared one by one, for which no memory is taken.
const FIRST: usize = 16;

impl Window {
    /// All that a text has of the greatest width it has any of. An empty text has none.
    pub(super) fn all(text: &str) -> Vec<Self> {
        fn windows<const N: usize>(text: &[u8]) -> Vec<Window> {
            numbers::<N>(text)
                .map(|bytes| Window { width: N, bytes })
                .collect()
        }
        let text = text.as_bytes();
        let mut all = match text.len() {
            0 => Vec::new(),
            1 => windows::<1>(text),
            2..4 => windows::<2>(text),
            4..8 => windows::<4>(text),
            _ => windows::<8>(text),
        };
        // One that repeats itself has a window once.
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The windows of a width, each as a number.
fn numbers<const N: usize>(text: &[u8]) -> impl Iterator<Item = u64> {
    text.windows(N).map(|window| {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(window);
        u64::from_le_bytes(bytes)
    })
}

impl<T> Windows<T> {
    /// Calls with the value of every window of the text, once with each.
    pub(super) fn of(&self, text: &[u8], mut then: impl FnMut(&T)) {
        let mut seen = Seen::default();
        let mut found = |position: u32| {
            if seen.is_new(position, self.values.len()) {
                self.values.get(position as usize).map(&mut then);
            }
        };
        let [eight, four, two, one] = &self.positions;
        look_up::<8>(eight, text, &mut found);
        look_up::<4>(four, text, &mut found);
        look_up::<2>(two, text, &mut found);
        look_up::<1>(one, text, &mut found);
    }
}

fn look_up<const N: usize>(positions: &Positions, text: &[u8], found: impl FnMut(u32)) {
    if !positions.is_empty() {
        let positions = numbers::<N>(text).filter_map(|bytes| positions.get(&bytes));
        positions.copied().for_each(found);
    }
}

/// Of equal windows the last one's value stays.
impl<T> FromIterator<(Window, T)> for Windows<T> {
    fn from_iter<I: IntoIterator<Item = (Window, T)>>(entries: I) -> Self {
        let mut windows = Self::default();
        for (Window { width, bytes }, value) in entries {
            // As there are fewer than four billion values.
            let position = windows.values.len() as u32;
            let [eight, four, two, one] = &mut windows.positions;
            let positions = match width {
                8 => eight,
                4 => four,
                2 => two,
                _ => one,
            };
            positions.insert(bytes, position);
            windows.values.push(value);
        }
        windows
    }
}

impl<T> Default for Windows<T> {
    fn default() -> Self {
        Self {
            positions: Default::default(),
            values: Vec::new(),
        }
    }
}

impl Seen {
    /// Whether this one of so many was not seen before.
    fn is_new(&mut self, position: u32, of: usize) -> bool {
        if self.first.contains(&position) {
            return false;
        }
        if self.first.len() < FIRST {
            self.first.push(position);
            return true;
        }
        self.all.resize(of.div_ceil(64), 0);
        let bit = 1 << (position % 64);
        let Some(word) = self.all.get_mut(position as usize / 64) else {
            return true;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

impl Hasher for Folded {
    fn write_u64(&mut self, number: u64) {
        // An odd number with bits set all over; both halves of the product, so that high bits count for low ones too.
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(texts: &[&str]) -> Windows<Window> {
        let all = texts.iter().flat_map(|text| Window::all(text));
        all.map(|window| (window, window)).collect()
    }

    fn found(windows: &Windows<Window>, text: &str) -> Vec<Window> {
        let mut found = Vec::new();
        windows.of(text.as_bytes(), |window| found.push(*window));
        found
    }

    #[test]
    fn a_text_has_windows_of_the_greatest_width_that_fits() {
        for (text, width, count) in [
            ("a", 1, 1),
            ("ab", 2, 1),
            ("abc", 2, 2),
            ("abcd", 4, 1),
            ("abcdefg", 4, 4),
            ("abcdefgh", 8, 1),
            ("/v1/item17/", 8, 4),
            ("aaaaaaaaaaaa", 8, 1),
        ] {
            let all = Window::all(text);
            assert_eq!(all.len(), count, "{text}");
            assert!(all.iter().all(|it| it.width == width), "{text}");
        }
        assert!(Window::all("").is_empty());
    }

    #[test]
    fn windows_of_all_widths_are_found_wherever_they_are() {
        let windows = windows(&["a", "bc", "defg", "/v1/item"]);
        for (text, expected) in [
            ("", 0),
            ("xxxxxxxxxxxxxxxx", 0),
            ("a", 1),
            ("xbc", 1),
            ("xxdefg", 1),
            ("/v1/item", 1),
            ("/v1/itemdefgbca", 4),
            ("/v1/ite", 0),
        ] {
            assert_eq!(found(&windows, text).len(), expected, "{text}");
        }
    }

    #[test]
    fn a_text_that_repeats_itself_has_each_window_once() {
        let all: Vec<String> = (0..200).map(|n| format!("{n:08}")).collect();
        let texts: Vec<&str> = all.iter().map(|it| &**it).collect();
        let windows = windows(&texts);
        let mut found = found(&windows, &format!("{0}{0}{0}", all.join("/")));
        let count = found.len();
        found.sort();
        found.dedup();
        assert_eq!((count, found.len()), (200, 200));
    }

    proptest::proptest! {
        #[test]
        fn what_has_a_text_has_each_of_its_windows(before in "[ab/]{0,9}", text in "[ab/]{1,20}", after in "[ab/]{0,9}") {
            let windows = windows(&[&text]);
            let found = found(&windows, &format!("{before}{text}{after}"));
            proptest::prop_assert_eq!(found.len(), Window::all(&text).len());
        }
    }
}
