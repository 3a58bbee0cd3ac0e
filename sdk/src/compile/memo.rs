//! What the last run made, part by part, for the next one to take over.
//!
//! ```text
//! input ─▶ as last time? ─┬─ yes ─▶ the part as it was made then
//!                         └─ no ──▶ a pure function of the input ─▶ a new part
//! ```
//!
//! A part is made by a function that sees its input and nothing else ([`Table::part`] takes no closure). So whoever has the
//! same input may have the same part, and a run that starts with nothing gives the very same answer, only later: nothing is
//! ever invalidated by hand. Where the input of a part cannot be told beforehand, the part remembers what it asked and what
//! it was told, and is asked again whether that still holds ([`Table::checked`]).
//!
//! Resources and parts are compared by identity ([`Same`]): whoever was not made anew did not change. A part keeps what it
//! was made of, so no address is ever used twice while it is remembered.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::config::Problem;

/// A shared value that is compared by identity.
#[derive(Debug)]
pub(crate) struct Same<T: ?Sized>(pub(crate) Arc<T>);

impl<T: ?Sized> Same<T> {
    /// Shares a value.
    pub(crate) fn of(shared: &Arc<T>) -> Self {
        Self(Arc::clone(shared))
    }

    /// The value, shared once more.
    pub(crate) fn shared(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }
}

impl<T: ?Sized> Clone for Same<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Same<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: ?Sized> Borrow<Arc<T>> for Same<T> {
    fn borrow(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: ?Sized> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: ?Sized> Eq for Same<T> {}

/// Shares each of a list.
pub(crate) fn same<'t, T: 't>(all: impl IntoIterator<Item = &'t Arc<T>>) -> Vec<Same<T>> {
    all.into_iter().map(Same::of).collect()
}

/// A part, and what is wrong with what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) problems: Vec<Problem>,
}

impl<T> Found<T> {
    /// What a function makes while it notes problems.
    pub(crate) fn by(make: impl FnOnce(&mut Vec<Problem>) -> T) -> Self {
        let mut problems = Vec::new();
        let value = make(&mut problems);
        Self { value, problems }
    }

    /// The value; the problems are told once more.
    pub(crate) fn tell(&self, problems: &mut Vec<Problem>) -> &T {
        problems.extend(self.problems.iter().cloned());
        &self.value
    }
}

/// What a part is remembered under: the address of what it is made of in the first place. Its input keeps that alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(usize, u32);

impl Address {
    /// Of the one part of something.
    pub(crate) fn of<T>(it: &Arc<T>) -> Self {
        Self::nth(it, 0)
    }

    /// Of one of several.
    pub(crate) fn nth<T>(it: &Arc<T>, nth: u32) -> Self {
        Self(Arc::as_ptr(it).addr(), nth)
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0);
        state.write_u32(self.1);
    }
}

/// Spreads addresses, which nobody outside chooses.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, it: u32) {
        self.write_u64(u64::from(it));
    }

    fn write_u64(&mut self, it: u64) {
        // Knuth's multiplier; the rotation brings the well-mixed upper bits to where tables look.
        self.0 = (self.0 ^ it).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    fn write_usize(&mut self, it: usize) {
        self.write_u64(it as u64);
    }
}

/// The parts of one kind.
#[derive(Debug)]
pub(crate) struct Table<I, V, K = Address> {
    parts: HashMap<K, Part<I, V>, BuildHasherDefault<Spread>>,
    /// Counts runs, so that parts which the last one had no use for can be told.
    run: u32,
}

#[derive(Debug)]
struct Part<I, V> {
    input: I,
    value: V,
    run: u32,
}

impl<I, V, K> Default for Table<I, V, K> {
    fn default() -> Self {
        Self {
            parts: HashMap::default(),
            run: 0,
        }
    }
}

impl<I: PartialEq, V, K: Eq + Hash> Table<I, V, K> {
    /// The part of an input: as it was made last time if the input is the same, else as `make` makes it, which knows no
    /// more than the input and `ground`, on which all parts of the table stand.
    pub(crate) fn part<G: ?Sized>(&mut self, at: K, input: I, ground: &G, make: fn(&I, &G) -> V) -> &V {
        self.checked(at, input, |_| true, |input| make(input, ground))
    }

    /// As [`Table::part`], for a part that can say whether what it asked for while it was made is still so.
    pub(crate) fn checked(
        &mut self,
        at: K,
        input: I,
        holds: impl FnOnce(&V) -> bool,
        make: impl FnOnce(&I) -> V,
    ) -> &V {
        use std::collections::hash_map::Entry;
        let run = self.run;
        match self.parts.entry(at) {
            Entry::Occupied(known) => {
                let part = known.into_mut();
                part.run = run;
                if part.input != input || !holds(&part.value) {
                    part.value = make(&input);
                    part.input = input;
                }
                &part.value
            }
            Entry::Vacant(free) => {
                let value = make(&input);
                &free.insert(Part { input, value, run }).value
            }
        }
    }

    /// Forgets the parts that nobody wanted in this run, and begins the next.
    pub(crate) fn sweep(&mut self) {
        let run = self.run;
        self.parts.retain(|_, part| part.run == run);
        self.run = run.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_made_again_only_of_another_input() {
        let mut table: Table<(Same<str>, u32), String> = Table::default();
        let key = Arc::new(());
        let (one, twin): (Arc<str>, Arc<str>) = ("one".into(), "one".into());
        let make = |(text, number): &(Same<str>, u32), ground: &str| format!("{}{number}{ground}", text.0);
        let at = Address::of(&key);
        assert_eq!(table.part(at, (Same::of(&one), 1), "a", make), "one1a");
        // The same identity and number: whatever the function would say now.
        assert_eq!(table.part(at, (Same::of(&one), 1), "b", make), "one1a");
        assert_eq!(table.part(at, (Same::of(&one), 2), "b", make), "one2b");
        assert_eq!(table.part(at, (Same::of(&twin), 2), "c", make), "one2c");
        let other = Address::nth(&key, 1);
        assert_eq!(table.part(other, (Same::of(&twin), 2), "d", make), "one2d");
    }

    #[test]
    fn what_no_longer_holds_is_made_again_and_what_nobody_wants_is_forgotten() {
        let mut table: Table<(), u32> = Table::default();
        let key = Arc::new(());
        let at = Address::of(&key);
        assert_eq!(*table.checked(at, (), |_| true, |()| 1), 1);
        assert_eq!(*table.checked(at, (), |_| true, |()| 2), 1);
        assert_eq!(*table.checked(at, (), |_| false, |()| 3), 3);
        table.sweep();
        assert_eq!(*table.checked(at, (), |_| true, |()| 4), 3);
        table.sweep();
        table.sweep();
        assert_eq!(*table.checked(at, (), |_| true, |()| 5), 5);
    }
}
