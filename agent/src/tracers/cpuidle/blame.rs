//! Whom to blame when a cgroup and its ancestors burst in the same tick: usage is counted upwards, so an ancestor of a
//! busy cgroup looks busy too.
//!
//! The descendant alone is blamed if it accounts for at least half of the ancestor's usage. Containers and services
//! need no such choice, because what is below them is not looked at on its own.

use std::collections::HashMap;

use crate::cgroup::ancestry;

/// A cgroup that met a rule.
pub(super) trait Suspect {
    fn path(&self) -> &str;
    /// CPUs used, with everything below it.
    fn cpus(&self) -> f64;
    /// For the order of captures.
    fn score(&self) -> f64;
}

/// Those to blame, the highest score first.
pub(super) fn blame<S: Suspect>(mut suspects: Vec<S>) -> Vec<S> {
    let places: HashMap<&str, usize> = suspects.iter().enumerate().map(|(place, one)| (one.path(), place)).collect();
    let mut excused = vec![false; suspects.len()];
    for suspect in &suspects {
        for place in ancestry(suspect.path()).skip(1).filter_map(|above| places.get(above)) {
            excused[*place] |= suspect.cpus() * 2.0 >= suspects[*place].cpus();
        }
    }
    let mut excused = excused.into_iter();
    suspects.retain(|_| !excused.next().unwrap_or(false));
    suspects.sort_by(|a, b| b.score().total_cmp(&a.score()));
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Suspect for (&str, f64, f64) {
        fn path(&self) -> &str {
            self.0
        }

        fn cpus(&self) -> f64 {
            self.1
        }

        fn score(&self) -> f64 {
            self.2
        }
    }

    fn blamed<'a>(suspects: &[(&'a str, f64, f64)]) -> Vec<&'a str> {
        blame(suspects.to_vec()).into_iter().map(|suspect| suspect.0).collect()
    }

    #[test]
    fn a_descendant_with_half_of_the_usage_is_blamed_alone() {
        assert_eq!(blamed(&[("/a", 2.0, 9.0), ("/a/b", 1.0, 8.0)]), ["/a/b"]);
        assert_eq!(blamed(&[("/a", 2.0, 9.0), ("/a/b", 0.9, 8.0)]), ["/a", "/a/b"]);
        assert_eq!(blamed(&[("/a", 2.0, 9.0), ("/a/b", 1.9, 8.0), ("/a/b/c", 1.9, 7.0)]), ["/a/b/c"]);
    }

    #[test]
    fn strangers_are_all_blamed_the_highest_score_first() {
        assert_eq!(blamed(&[("/a", 1.0, 1.0), ("/ab", 1.0, 3.0), ("/c", 1.0, 2.0)]), ["/ab", "/c", "/a"]);
    }
}
