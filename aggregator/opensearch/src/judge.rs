//! What an answer of OpenSearch means for a document. This is the only place that knows.
//!
//! | Status | Meaning |
//! |---|---|
//! | 2xx, or 409 for what is only created | done |
//! | 429, 5xx | the same again, later and with less at a time; an index that is read-only for want of disk says 429 |
//! | 413 | the same again in parts; a single document that is too large is poison |
//! | 400 for the document | poison |
//! | 400 for the cluster or the index, 401, 403, 404, others | a halt: nothing that another document would change |

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Created,
    /// It was there.
    Duplicate,
    Again,
    Divide,
    Poison,
    Halt,
}

/// Errors that come as 400 and are not the document's: a limit of the cluster, an index that somebody closed.
const NOT_THE_DOCUMENT: [&str; 3] = ["validation_exception", "index_closed_exception", "index_create_block_exception"];

/// Judges a status, and the type of the error that came with it.
pub(crate) fn judge(status: u16, kind: &str) -> Verdict {
    match status {
        200..=299 => Verdict::Created,
        409 => Verdict::Duplicate,
        429 | 500.. => Verdict::Again,
        413 => Verdict::Divide,
        400 if NOT_THE_DOCUMENT.contains(&kind) => Verdict::Halt,
        400 => Verdict::Poison,
        _ => Verdict::Halt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        for (status, kind, verdict) in [
            (201, "", Verdict::Created),
            (409, "version_conflict_engine_exception", Verdict::Duplicate),
            (429, "rejected_execution_exception", Verdict::Again),
            (429, "cluster_block_exception", Verdict::Again),
            (503, "unavailable_shards_exception", Verdict::Again),
            (500, "", Verdict::Again),
            (413, "", Verdict::Divide),
            (400, "mapper_parsing_exception", Verdict::Poison),
            (400, "illegal_argument_exception", Verdict::Poison),
            (400, "validation_exception", Verdict::Halt),
            (400, "index_closed_exception", Verdict::Halt),
            (401, "security_exception", Verdict::Halt),
            (403, "cluster_block_exception", Verdict::Halt),
            (404, "index_not_found_exception", Verdict::Halt),
            (302, "", Verdict::Halt),
        ] {
            assert_eq!(judge(status, kind), verdict, "{status} {kind}");
        }
    }
}
