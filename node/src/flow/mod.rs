//! Where the mesh meets the store.
