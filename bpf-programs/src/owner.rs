//! Whom the kernel charges for something, as the programs name it (`include/owner.h`).

/// The hierarchy in which the id of a cgroup means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hierarchy {
    /// Cgroup v2.
    Unified,
    /// Cgroup v1, the hierarchy of the `blkio` controller.
    Blkio,
    /// Cgroup v1, the hierarchy of the `memory` controller.
    Memory,
}

/// A cgroup below the root of its hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub hierarchy: Hierarchy,
    /// Inode number of its directory.
    pub cgroup: u64,
}

impl Owner {
    /// `None` for the machine itself.
    pub(crate) fn new(hierarchy: u64, cgroup: u64) -> Option<Self> {
        use crate::layout::{OWNER_BLKIO, OWNER_MEMORY, OWNER_UNIFIED};
        let hierarchy = match hierarchy as usize {
            OWNER_UNIFIED => Hierarchy::Unified,
            OWNER_BLKIO => Hierarchy::Blkio,
            OWNER_MEMORY => Hierarchy::Memory,
            _ => return None,
        };
        Some(Self { hierarchy, cgroup })
    }
}
