//! What a program can do on this machine.

/// Never a bare "no": whoever reads it learns why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    Full,
    /// Works, with something left out.
    Degraded(String),
    /// Cannot work here.
    Unsupported(String),
}
