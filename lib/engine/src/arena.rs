//! Arenas with generational keys: the key of a removed value finds nothing, even if its slot is used again.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $visible:vis $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visible struct $name(Key);

        impl From<Key> for $name {
            fn from(key: Key) -> Self {
                Self(key)
            }
        }

        impl From<$name> for Key {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

ids! {
    /// A query.
    pub QueryId
    /// A batch of queries that are sent together.
    pub(crate) BatchId
    /// A coding group.
    pub GroupId
    /// A call: one attempt of a piece of work on an instance.
    pub CallId
    /// An instance. One that was lost and joins again is a new instance.
    pub InstanceId
}

impl InstanceId {
    /// A small number that no other instance has as long as this one is held.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// A key of one kind of thing.
pub(crate) trait Id: From<Key> + Into<Key> + Copy + 'static {}

impl<I: From<Key> + Into<Key> + Copy + 'static> Id for I {}

#[derive(Debug)]
pub(crate) struct Arena<I, T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    id: PhantomData<I>,
}

impl<I: Id, T> Arena<I, T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), id: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> I {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            self.entries.len() as u32 - 1
        });
        let (generation, entry) = &mut self.entries[index as usize];
        *entry = Some(value);
        I::from(Key { index, generation: *generation })
    }

    pub(crate) fn get(&self, id: I) -> Option<&T> {
        let key = id.into();
        let (generation, value) = self.entries.get(key.index as usize)?;
        value.as_ref().filter(|_| *generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        let key = id.into();
        let (generation, value) = self.entries.get_mut(key.index as usize)?;
        value.as_mut().filter(|_| *generation == key.generation)
    }

    pub(crate) fn contains(&self, id: I) -> bool {
        self.get(id).is_some()
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let key = id.into();
        let (generation, value) = self.entries.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = value.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = I> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, (_, value))| value.is_some())
            .map(|(index, (generation, _))| I::from(Key { index: index as u32, generation: *generation }))
    }
}

/// For the engine's own keys: one that finds nothing is a defect of the engine.
impl<I: Id, T> Index<I> for Arena<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        self.get(id).expect("the engine keeps no key of a removed value")
    }
}

impl<I: Id, T> IndexMut<I> for Arena<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        self.get_mut(id).expect("the engine keeps no key of a removed value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_removed_value_finds_nothing_if_its_slot_is_used_again() {
        let mut arena: Arena<QueryId, &str> = Arena::new();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!((first.0.index, arena.len()), (second.0.index, 1));
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert!(arena.get_mut(first).is_none() && !arena.contains(first));
        assert_eq!(arena[second], "second");
        assert_eq!(arena.ids().collect::<Vec<_>>(), [second]);
    }
}
