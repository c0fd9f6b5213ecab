//! Which reasons are which terms of the ledger.

use crate::v1::LossReason;

/// What a count of a [`LossReason`] means for the sum of what was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// Observations that are lost.
    Dropped,
    /// Observations that were left out on purpose.
    Suppressed,
    /// Observations that were put aside behind the log.
    Quarantined,
    /// No observations: samples, kernel records and captures that never became one.
    Unseen,
}

impl LossReason {
    pub fn term(self) -> Term {
        match self {
            Self::Cooldown | Self::RateLimited => Term::Suppressed,
            Self::Quarantined => Term::Quarantined,
            Self::RingFull | Self::MapFull | Self::BadRecord | Self::CaptureLimit => Term::Unseen,
            Self::Unspecified
            | Self::BufferFull
            | Self::BufferCorrupt
            | Self::QueueFull
            | Self::DiskError
            | Self::TooLarge
            | Self::LogLost
            | Self::NumberTaken
            | Self::BadData
            | Self::NodeLost => Term::Dropped,
        }
    }
}

impl Term {
    /// Of the reason with this number. One that a newer agent has is a loss.
    pub fn of(reason: i32) -> Self {
        LossReason::try_from(reason).map_or(Self::Dropped, LossReason::term)
    }
}
