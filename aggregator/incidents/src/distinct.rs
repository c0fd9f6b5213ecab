//! How many different ones there were: exact up to [`MAX`], at least so many beyond.
//!
//! Each has a count, so that what was taken for a member and is none can be taken out again.

/// Names that are told apart.
pub(crate) const MAX: usize = 16_384;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Distinct {
    /// By key: a sorted list is small, and the same however it came about.
    pub(crate) counts: Vec<(u64, u32)>,
    /// Whether one found no room: there were more than are counted.
    pub(crate) is_over: bool,
}

impl Distinct {
    pub(crate) fn insert(&mut self, key: u64) {
        match self.counts.binary_search_by_key(&key, |one| one.0) {
            Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(1),
            Err(_) if self.counts.len() >= MAX => self.is_over = true,
            Err(at) => self.counts.insert(at, (key, 1)),
        }
    }

    pub(crate) fn remove(&mut self, key: u64) {
        if let Ok(at) = self.counts.binary_search_by_key(&key, |one| one.0) {
            self.counts[at].1 -= 1;
            if self.counts[at].1 == 0 {
                self.counts.remove(at);
            }
        }
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.counts.binary_search_by_key(&key, |one| one.0).is_ok()
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.len() as u64
    }

    /// Of memory: a list that grows has up to twice the room, and four at first.
    pub(crate) fn bytes(&self) -> usize {
        (2 * self.counts.len()).max(4) * size_of::<(u64, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_is_not_counted_and_what_finds_no_room_is_told() {
        let mut names = Distinct::default();
        for key in [3, 1, 3] {
            names.insert(key);
        }
        names.remove(3);
        assert_eq!((names.count(), names.is_over), (2, false));
        assert!(names.contains(3) && !names.contains(2));
        names.remove(3);
        names.remove(7);
        assert_eq!(names.count(), 1);
        for key in 0..=MAX as u64 {
            names.insert(key);
        }
        assert_eq!((names.count(), names.is_over), (MAX as u64, true));
    }
}
