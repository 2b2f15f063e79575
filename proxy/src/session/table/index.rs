//! The index of a table: where the entry of a key lies.
//!
//! 8 bytes a place, in 256 parts that grow one by one: no growth step holds up requests for long, whatever the size.

use super::NONE;
use crate::session::id::SessionKey;

const PARTS: usize = 256;

/// Finds slots by key.
#[derive(Debug)]
pub(super) struct Index(Vec<Part>);

impl Index {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(Part::default).take(PARTS).collect())
    }

    /// The slot of a key; `is_it` looks at the entry in a slot that may be the one.
    pub(super) fn find(&self, key: &SessionKey, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.0[part_of(key)].find(tag(key), is_it)
    }

    /// Takes a key in that is not there yet.
    pub(super) fn insert(&mut self, key: &SessionKey, slot: u32) {
        self.0[part_of(key)].insert(tag(key), slot);
    }

    pub(super) fn remove(&mut self, key: &SessionKey, slot: u32) {
        self.0[part_of(key)].remove(tag(key), slot);
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let places: usize = self.0.iter().map(|part| part.places.capacity() * size_of::<Place>()).sum();
        places + PARTS * size_of::<Part>()
    }
}

/// Keys are digests already: any of their bits do for a hash.
fn part_of(key: &SessionKey) -> usize {
    usize::from(key.0[0])
}

fn tag(key: &SessionKey) -> u32 {
    let [_, a, b, c, d, ..] = key.0;
    u32::from_be_bytes([a, b, c, d])
}

/// One part: open addressing, at most three quarters full. The tag says where an entry would like to be, so
/// that moving it needs no look at the entry.
#[derive(Debug, Default)]
struct Part {
    places: Vec<Place>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u32,
    slot: u32,
}

const EMPTY: Place = Place { tag: 0, slot: NONE };

impl Part {
    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.place(tag, is_it).map(|at| self.places[at].slot)
    }

    fn place(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = tag as usize & self.mask();
        // Never full, so an empty place ends it.
        loop {
            let place = self.places[at];
            if place.slot == NONE {
                return None;
            }
            if place.tag == tag && is_it(place.slot) {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
    }

    fn insert(&mut self, tag: u32, slot: u32) {
        if (self.used + 1) * 4 > self.places.len() * 3 {
            let larger = vec![EMPTY; (self.places.len() * 2).max(4)];
            let old = std::mem::replace(&mut self.places, larger);
            for place in old.into_iter().filter(|place| place.slot != NONE) {
                self.put(place);
            }
        }
        self.put(Place { tag, slot });
        self.used += 1;
    }

    fn put(&mut self, place: Place) {
        let mut at = place.tag as usize & self.mask();
        while self.places[at].slot != NONE {
            at = (at + 1) & self.mask();
        }
        self.places[at] = place;
    }

    fn remove(&mut self, tag: u32, slot: u32) {
        let Some(mut hole) = self.place(tag, |other| other == slot) else { return };
        self.used -= 1;
        let mask = self.mask();
        let mut at = hole;
        // Those behind the hole move up, where that brings them no further from home than they may be.
        loop {
            self.places[hole] = EMPTY;
            loop {
                at = (at + 1) & mask;
                let place = self.places[at];
                if place.slot == NONE {
                    return;
                }
                let from_home = at.wrapping_sub(place.tag as usize) & mask;
                if from_home >= (at.wrapping_sub(hole) & mask) {
                    break;
                }
            }
            self.places[hole] = self.places[at];
            hole = at;
        }
    }
}
