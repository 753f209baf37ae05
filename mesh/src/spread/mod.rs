//! What everyone should know, and who is there.
//!
//! `sync` compares sets of statements and says what each side lacks; `liveness` says from the age
//! of the last authenticated data whether a peer is heard. In a mesh of more than [`FULL`] members not
//! everybody has a session with everybody: `view` picks whom to keep one with, `watch` says who of
//! those fell silent, `lives` what follows from the words of several such observers, and `telling` whom to tell of them.

pub(crate) mod liveness;
pub mod lives;
pub(crate) mod sync;
pub mod telling;
pub mod view;
pub mod watch;

/// Up to so many members everybody keeps a session with everybody. Signs of life for 47 sessions come to five times what
/// a member of a larger mesh spends on its twenty: from fifty members on nobody's cost grows with the mesh.
pub const FULL: usize = 48;
