//! A bounded table of pins in exact order of use.
//!
//! Entries of 36 bytes lie in chunks and are linked by their numbers, so that a table grows by what it holds and never
//! copies an entry. An [`Index`] finds them. 50 to 64 bytes a session in all.

mod index;

use index::Index;

use super::clock::Tick;
use super::id::{PathTag, SessionKey};
use super::pin::Pin;
use crate::pods::PodId;

/// No entry.
const NONE: u32 = u32::MAX;
const CHUNK: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: SessionKey,
    path: PathTag,
    used: Tick,
    /// Towards the most recently used.
    newer: u32,
    /// Towards the least recently used; the next free entry for a free one.
    older: u32,
    pod: PodId,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// In use since the store was last told.
    Fresh,
    /// The store knows the last use.
    Told,
}

/// One pin as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) key: SessionKey,
    pub(super) pin: Pin,
    /// Last use.
    pub(super) used: Tick,
}

/// Pins, at most `capacity`, in order of use.
#[derive(Debug)]
pub(super) struct Table {
    chunks: Vec<Vec<Entry>>,
    index: Index,
    capacity: usize,
    len: usize,
    /// Most recently used.
    newest: u32,
    /// Least recently used.
    oldest: u32,
    free: u32,
}

impl Table {
    /// A table that holds at least one and at most `capacity` pins.
    pub(super) fn new(capacity: usize) -> Self {
        let index = Index::new();
        Self { chunks: Vec::new(), index, capacity: clamp(capacity), len: 0, newest: NONE, oldest: NONE, free: NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Changes the bound; what is above it stays until it is removed.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = clamp(capacity);
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// A pin, without counting as use.
    pub(super) fn peek(&self, key: &SessionKey) -> Option<Held> {
        self.slot(key).map(|slot| self.held(slot))
    }

    /// Makes a pin the most recently used one.
    pub(super) fn touch(&mut self, key: &SessionKey, now: Tick) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        self.use_slot(slot, now);
        true
    }

    /// The pin, if it was used since `since`; that is a use of it.
    pub(super) fn use_since(&mut self, key: &SessionKey, since: Tick, now: Tick) -> Option<Pin> {
        let slot = self.slot(key)?;
        let Entry { used, pod, path, .. } = *self.entry(slot);
        if used < since {
            return None;
        }
        self.use_slot(slot, now);
        Some(Pin { pod, path })
    }

    /// Puts a pin in as the most recently used one, or replaces it. Where the table is full, the least recently used
    /// one goes, and is returned.
    pub(super) fn insert(&mut self, key: SessionKey, pin: Pin, now: Tick) -> Option<Held> {
        if let Some(slot) = self.slot(&key) {
            let entry = self.entry_mut(slot);
            (entry.pod, entry.path) = (pin.pod, pin.path);
            self.use_slot(slot, now);
            return None;
        }
        let evicted = if self.is_full() { self.remove_slot(self.oldest) } else { None };
        let entry =
            Entry { key, path: pin.path, used: now, newer: NONE, older: NONE, pod: pin.pod, state: State::Fresh };
        let slot = self.take_free(entry);
        self.index.insert(&key, slot);
        self.link_newest(slot);
        self.len += 1;
        evicted
    }

    pub(super) fn remove(&mut self, key: &SessionKey) -> Option<Held> {
        let slot = self.slot(key)?;
        self.remove_slot(slot)
    }

    /// Takes out the least recently used pin if it was not used since `since`.
    pub(super) fn pop_unused(&mut self, since: Tick) -> Option<Held> {
        let oldest = self.oldest;
        if oldest == NONE || self.entry(oldest).used >= since {
            return None;
        }
        self.remove_slot(oldest)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }

    /// How many places there are to sweep.
    pub(super) fn places(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Looks at up to `limit` places from `cursor` on, and gives those pins to `visit` that were used since it gave
    /// them last, or all. Returns the next cursor, `None` at the end.
    pub(super) fn sweep(
        &mut self,
        cursor: usize,
        limit: usize,
        all: bool,
        mut visit: impl FnMut(Held),
    ) -> Option<usize> {
        let places = self.places();
        let end = cursor.saturating_add(limit).min(places);
        for at in cursor..end {
            let entry = self.chunks.get_mut(at / CHUNK).and_then(|chunk| chunk.get_mut(at % CHUNK))?;
            if entry.state == State::Fresh || (all && entry.state == State::Told) {
                entry.state = State::Told;
                visit(Held { key: entry.key, pin: Pin { pod: entry.pod, path: entry.path }, used: entry.used });
            }
        }
        (end < places).then_some(end)
    }

    /// Bytes on the heap.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Entry>()).sum();
        chunks + self.index.heap_bytes() + self.chunks.capacity() * size_of::<Vec<Entry>>()
    }

    fn entry(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn held(&self, slot: u32) -> Held {
        let entry = self.entry(slot);
        Held { key: entry.key, pin: Pin { pod: entry.pod, path: entry.path }, used: entry.used }
    }

    fn slot(&self, key: &SessionKey) -> Option<u32> {
        self.index.find(key, |slot| self.entry(slot).key == *key)
    }

    fn use_slot(&mut self, slot: u32, now: Tick) {
        let entry = self.entry_mut(slot);
        entry.used = now.max(entry.used);
        entry.state = State::Fresh;
        if self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    fn take_free(&mut self, entry: Entry) -> u32 {
        if self.free != NONE {
            let slot = self.free;
            let place = self.entry_mut(slot);
            let next = place.older;
            *place = entry;
            self.free = next;
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // A small cache takes no more than it may ever hold.
            let rest = self.capacity.saturating_sub(self.chunks.len() * CHUNK);
            self.chunks.push(Vec::with_capacity(rest.clamp(1, CHUNK)));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let chunk = &mut self.chunks[full / CHUNK];
        chunk.push(entry);
        // The capacity is below `NONE`, so every slot fits.
        (full + chunk.len() - 1) as u32
    }

    fn remove_slot(&mut self, slot: u32) -> Option<Held> {
        if slot == NONE {
            return None;
        }
        let held = self.held(slot);
        self.index.remove(&held.key, slot);
        self.unlink(slot);
        let free = self.free;
        let entry = self.entry_mut(slot);
        entry.state = State::Free;
        entry.older = free;
        self.free = slot;
        self.len -= 1;
        Some(held)
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { newer, older, .. } = *self.entry(slot);
        match newer {
            NONE => self.newest = older,
            newer => self.entry_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entry_mut(older).newer = newer,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let second = self.newest;
        let entry = self.entry_mut(slot);
        (entry.newer, entry.older) = (NONE, second);
        match second {
            NONE => self.oldest = slot,
            second => self.entry_mut(second).newer = slot,
        }
        self.newest = slot;
    }
}

/// Every slot has a number below [`NONE`].
fn clamp(capacity: usize) -> usize {
    capacity.clamp(1, NONE as usize - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::id::{Hasher, Identity};

    /// Keys that meet in few parts with few tags, so that chains are long.
    fn key(number: u8) -> SessionKey {
        let mut bytes = [0; 16];
        (bytes[0], bytes[4], bytes[15]) = (number % 2, number % 5, number);
        SessionKey(bytes)
    }

    fn pin(pod: u16) -> Pin {
        Pin { pod: PodId(pod), path: PathTag(u32::from(pod)) }
    }

    fn hasher() -> Hasher {
        Hasher::new(&Identity { namespace: "n".into(), name: "s".into() })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u16),
        Touch(u8),
        UseSince(u8, u32),
        Remove(u8),
        Pop(u32),
        Sweep,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..24u8, any::<u16>()).prop_map(|(key, pod)| Step::Insert(key, pod)),
            2 => (0..24u8).prop_map(Step::Touch),
            2 => (0..24u8, 0..20u32).prop_map(|(key, age)| Step::UseSince(key, age)),
            2 => (0..24u8).prop_map(Step::Remove),
            1 => (0..20u32).prop_map(Step::Pop),
            1 => Just(Step::Sweep),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// The table does what a plain list in order of use does.
        #[test]
        fn it_is_a_list_in_order_of_use(capacity in 1..20usize, steps in steps()) {
            let mut table = Table::new(capacity);
            // Oldest first, and whether the store was told.
            let mut list: Vec<(Held, bool)> = Vec::new();
            for (now, step) in (100..).zip(steps) {
                match step {
                    Step::Insert(number, pod) => {
                        let held = Held { key: key(number), pin: pin(pod), used: now };
                        let before = list.iter().position(|(held, _)| held.key == key(number));
                        let evicted = match before {
                            Some(at) => { list.remove(at); None }
                            None if list.len() == capacity => Some(list.remove(0).0),
                            None => None,
                        };
                        list.push((held, false));
                        prop_assert_eq!(table.insert(key(number), pin(pod), now), evicted);
                    }
                    Step::Touch(number) => {
                        let at = list.iter().position(|(held, _)| held.key == key(number));
                        prop_assert_eq!(table.touch(&key(number), now), at.is_some());
                        if let Some(at) = at {
                            let (held, _) = list.remove(at);
                            list.push((Held { used: now, ..held }, false));
                        }
                    }
                    Step::UseSince(number, age) => {
                        let at = list.iter().position(|(held, _)| held.key == key(number) && held.used >= now - age);
                        prop_assert_eq!(table.use_since(&key(number), now - age, now), at.map(|at| list[at].0.pin));
                        if let Some(at) = at {
                            let (held, _) = list.remove(at);
                            list.push((Held { used: now, ..held }, false));
                        }
                    }
                    Step::Remove(number) => {
                        let at = list.iter().position(|(held, _)| held.key == key(number));
                        prop_assert_eq!(table.remove(&key(number)), at.map(|at| list.remove(at).0));
                    }
                    Step::Pop(age) => {
                        let old = list.first().is_some_and(|(held, _)| held.used < now - age);
                        prop_assert_eq!(table.pop_unused(now - age), old.then(|| list.remove(0).0));
                    }
                    Step::Sweep => {
                        let mut seen = Vec::new();
                        let mut cursor = Some(0);
                        while let Some(from) = cursor {
                            cursor = table.sweep(from, 3, false, |held| seen.push(held));
                        }
                        seen.sort_by_key(|held| held.used);
                        let fresh: Vec<_> = list.iter().filter(|(_, told)| !told).map(|(held, _)| *held).collect();
                        prop_assert_eq!(seen, fresh);
                        list.iter_mut().for_each(|(_, told)| *told = true);
                    }
                }
                prop_assert_eq!(table.len(), list.len());
                for number in 0..24 {
                    let held = list.iter().find(|(held, _)| held.key == key(number)).map(|(held, _)| *held);
                    prop_assert_eq!(table.peek(&key(number)), held);
                }
            }
            let mut order = Vec::new();
            while let Some(held) = table.pop_unused(u32::MAX) {
                order.push(held);
            }
            prop_assert_eq!(order, list.into_iter().map(|(held, _)| held).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_session_takes_at_most_64_bytes() {
        let hasher = hasher();
        let mut table = Table::new(1_000_000);
        for number in 1..=150_000u32 {
            table.insert(hasher.session(&number.to_be_bytes()), pin(1), number);
            if number % 10_000 == 0 {
                let each = table.heap_bytes() as f64 / f64::from(number);
                assert!(each <= 64.0, "{each} bytes a session at {number}");
            }
        }
    }

    #[test]
    fn an_empty_table_takes_little_and_a_full_one_stays_as_it_is() {
        assert!(Table::new(1_000_000).heap_bytes() < 10_000);
        let hasher = hasher();
        let mut table = Table::new(100);
        let mut after_first_round = 0;
        for number in 0..100_000u32 {
            table.insert(hasher.session(&number.to_be_bytes()), pin(1), number);
            if number == 20_000 {
                after_first_round = table.heap_bytes();
            }
        }
        assert_eq!(table.len(), 100);
        assert!(table.heap_bytes() <= after_first_round * 3 / 2, "{} bytes", table.heap_bytes());
    }
}
